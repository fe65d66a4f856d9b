"""What training leaves behind for people: `metrics.jsonl`, TensorBoard's event files, and the line an operator sees.

One JSON object a line. A step: {"step", "tokens", "train_nats_per_token", "learning_rate", "grad_norm",
"tokens_per_second", "seconds"}, with "skipped": true and the "documents" of its batch where the update was left out. An
evaluation: {"step", "tokens", "evaluation_nats_per_token"}. Lines of one trial among several also have "trial". After a
resume no step appears twice: what was written beyond the checkpoint is cut off first.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from pipeline.runtime.files import replacing
from pipeline.runtime.progress import Task, warn
from pipeline.saved_models.model_files import METRICS
from pipeline.saved_models.trial_record import CurvePoint
from pipeline.training.state import State, StepResult

TENSORBOARD = "tensorboard"
SHOWN_DOCUMENTS = 5  # of a skipped step, to the operator; the file names all
Line = dict[str, Any]


class Metrics:
    """Rank 0's view of one training: a line for every step and evaluation.

    Lines reach the disk when the system sees fit: no step waits for them.
    """

    def __init__(
        self, folder: Path, task: Task, state: State, *, trial: str = "", documents_of: Callable[[int], Sequence[str]]
    ) -> None:
        self._path, self._trial, self._task, self._documents_of = folder / METRICS, trial, task, documents_of
        self._evaluated = ""  # the newest evaluation, as the operator reads it beside every step's loss
        _cut(self._path, trial, state.step)
        self._file: TextIO = self._path.open("a", encoding="utf-8", buffering=1)
        self._events = EventFileWriter(str(folder / TENSORBOARD / trial), flush_secs=10)
        # TensorBoard drops what an earlier process wrote from this step on.
        self._event(state.step + 1, session_log=SessionLog(status=SessionLog.START))

    def step(self, state: State, result: StepResult, learning_rate: float, seconds: float) -> None:
        rate = result.tokens / seconds
        line: Line = {
            "train_nats_per_token": _finite(result.nats_per_token),
            "learning_rate": learning_rate,
            "grad_norm": _finite(result.grad_norm),
            "tokens_per_second": round(rate, 1),
            "seconds": round(seconds, 6),
        }
        if result.skipped:
            documents = self._documents_of(state.step - 1)
            line |= {"skipped": True, "documents": list(documents)}
            more = f" and {rest} more (in {METRICS})" if (rest := len(documents) - SHOWN_DOCUMENTS) > 0 else ""
            cause = "loss or gradient is not finite"
            if result.highest_loss < result.nats_per_token < math.inf:
                cause = f"loss {result.nats_per_token:,.3f} is a spike (above {result.highest_loss:,.3f})"
            warn(
                f"step {state.step:,}: {cause}, so the weights were left alone. Its documents are "
                f"{', '.join(documents[:SHOWN_DOCUMENTS])}{more}."
            )
        self._write(state, line)
        self._task.advance(1, f"loss {result.nats_per_token:.3f}{self._evaluated}  {rate:,.0f} tokens/s")

    def evaluation(self, state: State, nats_per_token: float) -> None:
        self._write(state, {"evaluation_nats_per_token": _finite(nats_per_token)})
        self._evaluated = f" ({nats_per_token:.3f} on held-out text)"

    def close(self) -> None:
        self._file.close()
        self._events.close()

    def _write(self, state: State, values: Line) -> None:
        place = {"step": state.step, "tokens": state.tokens} | ({"trial": self._trial} if self._trial else {})
        self._file.write(json.dumps(place | values) + "\n")
        # TensorBoard holds numbers only; what else a line says is in metrics.jsonl.
        shown = {name: value for name, value in values.items() if isinstance(value, float)}
        points = [Summary.Value(tag=name, simple_value=value) for name, value in shown.items()]
        self._event(state.step, summary=Summary(value=points))

    def _event(self, step: int, **content: Any) -> None:
        self._events.add_event(Event(wall_time=time.time(), step=step, **content))


class Unwatched:
    """Stands in for `Metrics` on ranks other than 0, whose numbers are the same."""

    def step(self, state: State, result: StepResult, learning_rate: float, seconds: float) -> None: ...
    def evaluation(self, state: State, nats_per_token: float) -> None: ...


def read_metrics(folder: Path, trial: str = "") -> list[Line]:
    """All lines of one training, in order of their steps."""
    return [line for line in _lines(folder / METRICS) if line.get("trial", "") == trial]


def curve(lines: Sequence[Line]) -> tuple[CurvePoint, ...]:
    """One point per evaluation, with the mean training loss of the steps since the evaluation before."""
    points: list[CurvePoint] = []
    losses: list[float] = []
    for line in lines:
        if "evaluation_nats_per_token" in line:
            evaluation = line["evaluation_nats_per_token"]
            points.append(
                CurvePoint(step=line["step"], train_nats_per_token=mean(losses), selection_nats_per_token=evaluation)
            )
            losses = []
        elif not line.get("skipped"):
            losses.append(line["train_nats_per_token"])
    return tuple(points)


def mean(values: Sequence[float]) -> float | None:
    """None if there is no value. Summed exactly, so the order of the values does not matter."""
    return math.fsum(values) / len(values) if values else None


def _cut(path: Path, trial: str, step: int) -> None:
    """Drop the lines of this trial beyond `step`, and a last line that a crash left unfinished."""
    if not path.exists():
        return
    kept = [line for line in _lines(path) if line.get("trial", "") != trial or line["step"] <= step]
    with replacing(path) as draft:
        draft.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")


def _lines(path: Path) -> list[Line]:
    texts = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(text) for text in texts if text.endswith("\n")]


def _finite(value: float) -> float | None:
    # JSON has no nan; `json.dumps` would write one all the same, and most readers refuse such a file.
    return value if math.isfinite(value) else None
