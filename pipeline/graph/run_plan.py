"""A plan as data, and as the lines that `folio plan` prints, readable at 100 columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.graph.forecast import ZERO_STAGES
from pipeline.runtime.formatting import counted, readable_bytes, readable_count, readable_seconds

DONE = "done"


@dataclass(frozen=True)
class StagePlan:
    """One node of the run. `state` is "done", "will run" or "stale"; `reason` says what changed.

    Seconds, bytes and tokens are forecasts, or of a finished stage what it took; None where nothing can be said.
    """

    stage: str
    state: str
    reason: str
    folder: str
    seconds: float | None
    disk_bytes: int | None
    tokens: int | None = None
    memory_bytes_per_rank: tuple[int, ...] | None = None  # by ZeRO stage 0 to 3
    zero: int | None = None
    copy_bytes_per_rank: int | None = None  # on top in main memory, while a checkpoint is written
    # Of one training of the stage, of a finished one, too: a trial of an arm, or pretraining as a whole.
    training_tokens: int | None = None
    epochs: float | None = None
    tokens_per_parameter: float | None = None

    @property
    def ahead(self) -> bool:
        """Whether it is still to do."""
        return self.state != DONE


@dataclass(frozen=True)
class RunPlan:
    """The plan of a run: `obstacles` says what does not fit on the machine, `notes` what else to know beforehand."""

    run: str
    ranks: int
    stages: tuple[StagePlan, ...]
    parameters: int
    obstacles: tuple[str, ...]
    notes: tuple[str, ...] = ()
    machine: str = ""  # that the plan is for; "" for this one
    speed: str = ""  # where the seconds of a machine that is not here come from

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def as_text(self) -> str:
        head = f"{self.run}: {readable_count(self.parameters)} parameters, {counted(self.ranks, 'rank')}"
        width = max(len(stage.stage) for stage in self.stages)
        lines = [f"{head} {self.speed}".rstrip(), *(_line(stage, width) for stage in self.stages)]
        lines += [*_training_table(self.stages, width), *_memory_table(self.stages, width)]
        ahead = [stage for stage in self.stages if stage.ahead]
        if not ahead:
            return "\n".join([*lines, "Nothing to do."])
        fits = f"It fits on {self.machine or 'this machine'}."
        verdict = [f"DOES NOT FIT: {obstacle}" for obstacle in self.obstacles] or [fits]
        return "\n".join([*lines, _total(ahead), *self.notes, *verdict])


def _line(stage: StagePlan, width: int) -> str:
    columns = [f"{stage.stage:>{width}}  {stage.state:<8}"]
    columns.append(f"{readable_seconds(stage.seconds):>11}" if stage.seconds is not None else f"{'?':>11}")
    columns.append(f"{readable_bytes(stage.disk_bytes):>9}" if stage.disk_bytes is not None else f"{'?':>9}")
    columns.append(f"{readable_count(stage.tokens)} tokens" if stage.tokens else "")
    columns.append(f"because {stage.reason}" if stage.reason else "")
    return "  ".join(column for column in columns if column).rstrip()


def _training_table(stages: Sequence[StagePlan], width: int) -> list[str]:
    """What one training of each stage comes to."""
    rows = [stage for stage in stages if stage.training_tokens is not None]
    if not rows:
        return []
    heading = "one training"
    width = max(width, len(heading))
    lines = [f"{heading:>{width}}{'tokens':>12}{'epochs':>12}{'tokens per parameter':>24}"]
    for stage in rows:
        tokens = readable_count(stage.training_tokens or 0)
        lines.append(
            f"{stage.stage:>{width}}{tokens:>12}{_ratio(stage.epochs):>12}{_ratio(stage.tokens_per_parameter):>24}"
        )
    return lines


def _ratio(value: float | None) -> str:
    """Two digits of a small number, a whole one above ten."""
    if value is None:
        return "?"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _memory_table(stages: Sequence[StagePlan], width: int) -> list[str]:
    rows = [stage for stage in stages if stage.memory_bytes_per_rank is not None]
    if not rows:
        return []
    heading = "memory per rank"
    width = max(width, len(heading))
    lines = [f"{heading:>{width}}" + "".join(f"{f'ZeRO {zero}':>10}" for zero in ZERO_STAGES)]
    for stage in rows:
        sizes = "".join(f"{readable_bytes(size):>10}" for size in stage.memory_bytes_per_rank or ())
        copy = f"; to save {readable_bytes(stage.copy_bytes_per_rank)} more" if stage.copy_bytes_per_rank else ""
        lines.append(f"{stage.stage:>{width}}{sizes}   (this run: ZeRO {stage.zero}{copy})")
    return lines


def _total(ahead: Sequence[StagePlan]) -> str:
    seconds = sum(stage.seconds or 0 for stage in ahead)
    disk = sum(stage.disk_bytes or 0 for stage in ahead)
    # An arm that stops improving ends before its planned steps.
    upper = "at most " if any(stage.training_tokens for stage in ahead) else "about "
    return f"to do: {counted(len(ahead), 'stage')}, {upper}{readable_seconds(seconds)} and {readable_bytes(disk)}"
