"""How long a run takes on this machine: the forecast of `folio plan`, for texts whose sizes are known beforehand."""

from __future__ import annotations

import math
from collections.abc import Callable

from pipeline.config.schema import Config
from pipeline.graph.durations import stage_seconds
from pipeline.graph.expected_texts import ExpectedTexts
from pipeline.graph.machines import Machine, this_machine
from pipeline.sizing.model_sizes import CandidateModel
from pipeline.sizing.recipe import Wish

START_SECONDS = 4.0  # the command itself: torch and the rest are imported before the first stage


def run_seconds(wish: Wish, machine: Machine | None = None) -> Callable[[Config, CandidateModel], float]:
    """A forecast of a whole run of a config with a model of a given size, for the texts of a wish."""
    machine = machine or this_machine()

    def seconds(config: Config, size: CandidateModel) -> float:
        texts = ExpectedTexts.of_sizes(config, _corpus(config, wish), wish.texts.target_bytes)
        stages = stage_seconds(config, texts, machine, wish.ranks, size.shape())
        return START_SECONDS + sum(part for part in stages.values() if part is not None)

    return seconds


def _corpus(config: Config, wish: Wish) -> dict[str, int | None]:
    """Text that each source gives, which share it evenly: only the sum enters the forecast."""
    limit = math.inf if config.corpus.max_bytes is None else config.corpus.max_bytes
    whole = int(min(limit, wish.texts.corpus_bytes))
    return {source.name: whole // len(config.corpus.sources) for source in config.corpus.sources}
