"""The search for the config that fits: each model size trained for as long as there is, and the best of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gpt.counts import flops_per_token, num_parameters
from pipeline.config.schema import Config
from pipeline.sizing.model_sizes import CandidateModel, expected_excess, model_sizes, useful_bytes
from pipeline.sizing.recipe import TRAIN_SHARE, Wish, config_values

FEWEST_TOKENS_PER_PARAMETER = 2  # of pretraining or the control; with fewer, a smaller model was better
HALVINGS = 18  # of the 33 octaves below: to less than a thousandth
SMALLEST_TOTAL, LARGEST_TOTAL = 1e4, 1e14  # tokens of a whole run
TRIED_EITHER_SIDE = 3  # sizes beside the first guess: timing a model takes a second
GUESSES = 4


@dataclass(frozen=True)
class Choice:
    """A config that fits, and the seconds that its run takes by the forecast."""

    size: CandidateModel
    values: dict[str, Any]
    config: Config
    seconds: float


def sizes_to_try(wish: Wish, speed_of: Callable[[CandidateModel], float]) -> list[CandidateModel]:
    """Sizes around the one that would be best if all trained at its speed, floating-point operations a second.

    Small models train at lower speeds than large ones, so the guess is repeated at the speed of the last one.
    """
    sizes = model_sizes(int(min(wish.texts.corpus_bytes, 1e12)))
    guess = len(sizes) // 3
    for _ in range(GUESSES):
        flops, before = 60 * wish.minutes * speed_of(sizes[guess]), guess
        excesses = [_excess(size, _config(size, flops / flops_per_token(size.shape()), wish), wish) for size in sizes]
        guess = excesses.index(min(excesses))
        if guess == before:
            break
    return sizes[max(guess - TRIED_EITHER_SIDE, 0) : guess + TRIED_EITHER_SIDE + 1]


def choose(
    wish: Wish, sizes: Sequence[CandidateModel], seconds_of: Callable[[Config, CandidateModel], float]
) -> Choice:
    """Of these sizes the config whose run takes `wish.minutes` and is expected to end with the lowest loss.

    `seconds_of` forecasts a whole run, and must not fall where only the amount of training grows.
    """
    choices = [filled(size, wish, seconds_of) for size in sizes]
    return min(choices, key=lambda choice: _excess(choice.size, choice.config, wish))


def filled(size: CandidateModel, wish: Wish, seconds_of: Callable[[Config, CandidateModel], float]) -> Choice:
    """The longest run of this model that ends in time; the shortest if none does."""
    low, high = SMALLEST_TOTAL, LARGEST_TOTAL
    for _ in range(HALVINGS):
        middle = (low * high) ** 0.5
        if seconds_of(_config(size, middle, wish), size) <= 60 * wish.minutes:
            low = middle
        else:
            high = middle
    values = config_values(size, low, wish)
    config = Config.model_validate(values)
    return Choice(size, values, config, seconds_of(config, size))


def _config(size: CandidateModel, total: float, wish: Wish) -> Config:
    return Config.model_validate(config_values(size, total, wish))


def _excess(size: CandidateModel, config: Config, wish: Wish) -> float:
    """What `expected_excess` says of the longer of pretraining and control; infinite for a model too large for it."""
    control, parameters = config.scratch, num_parameters(size.shape())
    trainings = (
        (config.pretrain.tokens, wish.texts.corpus_bytes),
        (control.max_steps * control.batch_tokens, TRAIN_SHARE * wish.texts.target_bytes),
    )
    useful = [
        useful_bytes(tokens * size.bytes_per_token, text_bytes)
        for tokens, text_bytes in trainings
        if tokens >= FEWEST_TOKENS_PER_PARAMETER * parameters
    ]
    return expected_excess(parameters, max(useful)) if useful else float("inf")
