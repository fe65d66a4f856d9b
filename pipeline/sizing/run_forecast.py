"""How long a run takes on this machine: the forecast of `folio plan`, for texts whose sizes are known beforehand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pipeline.config.schema import Config
from pipeline.graph.durations import stage_seconds
from pipeline.graph.expected_texts import ExpectedTexts
from pipeline.graph.machines import Machine
from pipeline.sizing.model_sizes import CandidateModel
from pipeline.sizing.recipe import Wish

SAMPLES = 8  # timed at once: 2,048 tokens
TIMED_SECONDS = 1.5  # for each model: machines that others use vary by a third from second to second
START_SECONDS = 4.0  # the command itself: torch and the rest are imported before the first stage


def timed_machine(machine: Machine, wish: Wish, sizes: Sequence[CandidateModel]) -> Machine:
    """The machine with the speeds of these models, precise enough to choose one and to fill the minutes with it."""
    return machine.timed([size.shape() for size in sizes], wish.dtype, SAMPLES, wish.ranks, TIMED_SECONDS)


def speed(machine: Machine, wish: Wish, size: CandidateModel) -> float:
    """Floating-point operations a second of one model, at a glance."""
    return machine.flops_per_second(size.shape(), wish.dtype, SAMPLES, wish.ranks)


def run_seconds(wish: Wish, machine: Machine) -> Callable[[Config, CandidateModel], float]:
    """A forecast of a whole run of a config with a model of a given size, for the texts of a wish."""

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
