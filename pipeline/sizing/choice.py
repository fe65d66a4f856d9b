"""The search for the config that fits: each model size trained for as long as there is, and the best of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gpt.counts import num_parameters
from pipeline.config.schema import Config
from pipeline.sizing.model_sizes import CandidateModel, expected_excess, model_sizes, useful_bytes
from pipeline.sizing.recipe import TRAIN_SHARE, Wish, config_values

FEWEST_TOKENS_PER_PARAMETER = 5  # of pretraining; below, a smaller model of the same run is always better
HALVINGS = 40
SMALLEST_TOTAL, LARGEST_TOTAL = 1e4, 1e14  # tokens of a whole run
WORSE_SIZES = 2  # in a row, after which no larger one is tried: timing a model takes a second


@dataclass(frozen=True)
class Choice:
    """A config that fits, and the seconds that its run takes by the forecast."""

    size: CandidateModel
    values: dict[str, Any]
    config: Config
    seconds: float


def choose(wish: Wish, seconds_of: Callable[[Config, CandidateModel], float]) -> Choice:
    """The config whose run takes `wish.minutes` and is expected to end with the lowest loss.

    `seconds_of` forecasts a whole run, and must not fall where only the amount of training grows.
    """
    best: Choice | None = None
    best_excess, worse = float("inf"), 0
    for size in model_sizes(int(min(wish.texts.corpus_bytes, 1e12))):
        choice = filled(size, wish, seconds_of)
        excess = _excess(choice, wish)
        if best is None or excess < best_excess:
            best, best_excess, worse = choice, excess, 0
        elif (worse := worse + 1) == WORSE_SIZES:
            break
    assert best is not None, "the ladder has models"
    return best


def filled(size: CandidateModel, wish: Wish, seconds_of: Callable[[Config, CandidateModel], float]) -> Choice:
    """The longest run of this model that ends in time; the shortest if none does."""
    low, high = SMALLEST_TOTAL, LARGEST_TOTAL
    for _ in range(HALVINGS):
        middle = (low * high) ** 0.5
        if seconds_of(Config.model_validate(config_values(size, middle, wish)), size) <= 60 * wish.minutes:
            low = middle
        else:
            high = middle
    values = config_values(size, low, wish)
    config = Config.model_validate(values)
    return Choice(size, values, config, seconds_of(config, size))


def _excess(choice: Choice, wish: Wish) -> float:
    """What `expected_excess` says of the longer of pretraining and control; infinite for a model too large for it."""
    size, control = choice.size, choice.config.scratch
    parameters = num_parameters(size.shape())
    trainings = (
        (choice.config.pretrain.tokens, wish.texts.corpus_bytes),
        (control.max_steps * control.batch_tokens, TRAIN_SHARE * wish.texts.target_bytes),
    )
    useful = [
        useful_bytes(tokens * size.bytes_per_token, text_bytes)
        for tokens, text_bytes in trainings
        if tokens >= FEWEST_TOKENS_PER_PARAMETER * parameters
    ]
    return expected_excess(parameters, max(useful)) if useful else float("inf")
