from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.runtime.progress import Progress
from pipeline.saved_models.model_files import METRICS
from pipeline.saved_models.trial_record import CurvePoint
from pipeline.training.metrics import Line, Metrics, curve, read_metrics
from pipeline.training.state import State, StepResult


@contextmanager
def metrics_of(folder: Path, state: State, trial: str = "") -> Iterator[Metrics]:
    with Progress("test").task("test", 10, "steps") as task:
        metrics = Metrics(
            folder, task, state, trial=trial, documents_of=lambda step: [f"prose/{step}-{n}" for n in range(7)]
        )
        yield metrics
        metrics.close()


def train(folder: Path, first: int, last: int, trial: str = "", *, bad: int = -1) -> None:
    state = State(step=first, tokens=10 * first)
    with metrics_of(folder, state, trial) as metrics:
        for step in range(first, last):
            result = StepResult(5.0 - step / 10, 10, 1.5, skipped=False, stop=False)
            if step == bad:
                result = StepResult(math.nan, 10, math.inf, skipped=True, stop=False)
            state = state.after_step(result)
            metrics.step(state, result, 0.1, seconds=0.5)
            if state.step % 2 == 0:
                metrics.evaluation(state, 1.0 * state.step)


def test_line_of_a_step_says_what_happened(tmp_path: Path) -> None:
    train(tmp_path, 0, 1)
    assert read_metrics(tmp_path) == [
        {
            "step": 1,
            "tokens": 10,
            "train_nats_per_token": 5.0,
            "learning_rate": 0.1,
            "grad_norm": 1.5,
            "tokens_per_second": 20.0,
            "seconds": 0.5,
        }
    ]


def test_skipped_step_names_its_documents_and_stays_valid_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, 0, 2, bad=1)
    line = read_metrics(tmp_path)[1]
    assert line["skipped"] is True
    assert line["documents"] == [f"prose/1-{number}" for number in range(7)]
    assert line["train_nats_per_token"] is None
    assert "NaN" not in (tmp_path / METRICS).read_text()
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "step 2: loss or gradient is not finite, so the weights were left alone. Its documents are prose/1-0," in said
    )
    assert "prose/1-4 and 2 more (in metrics.jsonl)." in said


def test_skipped_step_with_too_high_a_loss_says_how_high_one_may_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = StepResult(1234.5, 10, math.nan, skipped=True, stop=False, highest_loss=4.25)
    with metrics_of(tmp_path, State()) as metrics:
        metrics.step(State().after_step(result), result, 0.1, seconds=0.5)
    said = " ".join(capsys.readouterr().err.split())
    assert "step 1: loss 1,234.500 is a spike (above 4.250), so the weights were left alone." in said


def test_resumed_metrics_have_each_step_once(tmp_path: Path) -> None:
    train(tmp_path, 0, 7)
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"step": 8, "tok')  # a crash in the middle of a line
    train(tmp_path, 4, 10)
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines if "seconds" in line] == list(range(1, 11))
    assert [line["step"] for line in lines if "evaluation_nats_per_token" in line] == [2, 4, 6, 8, 10]


def test_trials_share_a_file_without_touching_each_other(tmp_path: Path) -> None:
    train(tmp_path, 0, 4, "a")
    train(tmp_path, 0, 4, "b")
    train(tmp_path, 2, 4, "a")
    for trial in ("a", "b"):
        assert [line["step"] for line in read_metrics(tmp_path, trial) if "seconds" in line] == [1, 2, 3, 4]
    assert read_metrics(tmp_path) == []


def test_curve_averages_training_losses_since_the_last_evaluation(tmp_path: Path) -> None:
    train(tmp_path, 0, 4, bad=2)
    assert curve(read_metrics(tmp_path)) == (
        CurvePoint(step=2, train_nats_per_token=(5.0 + 4.9) / 2, selection_nats_per_token=2.0),
        CurvePoint(step=4, train_nats_per_token=4.7, selection_nats_per_token=4.0),
    )


def test_evaluation_after_skipped_steps_alone_has_no_training_loss() -> None:
    lines: list[Line] = [
        {"step": 1, "train_nats_per_token": None, "skipped": True, "seconds": 1.0},
        {"step": 1, "evaluation_nats_per_token": None},
    ]
    assert curve(lines) == (CurvePoint(step=1, train_nats_per_token=None, selection_nats_per_token=None),)


def test_tensorboard_reads_the_same_numbers_and_forgets_what_was_undone(tmp_path: Path) -> None:
    train(tmp_path, 0, 7)
    time.sleep(1)  # TensorBoard orders its files by the second in their names; a process resumes in a later one
    train(tmp_path, 4, 6)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    shown = {point.step: point.value for point in events.Scalars("train_nats_per_token")}
    logged = {line["step"]: line["train_nats_per_token"] for line in read_metrics(tmp_path) if "seconds" in line}
    assert shown == {step: pytest.approx(value, rel=1e-6) for step, value in logged.items()}
    assert json.loads((tmp_path / METRICS).read_text().splitlines()[-1])["step"] == 6
