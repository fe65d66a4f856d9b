from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DataError
from pipeline.saved_models.model_files import BEST, LAST, TRIAL_RECORD, TRIALS
from pipeline.saved_models.trial_record import CurvePoint, TrialRecord, saved_trials

POINT = CurvePoint(step=4, train_nats_per_token=None, selection_nats_per_token=1.25)
RECORD = TrialRecord(
    learning_rate=1e-5,
    seed=3,
    steps=6,
    tokens=96,
    tokens_per_second=1500.0,
    best_step=4,
    best_selection_nats_per_token=1.25,
    diverged=False,
    curve=(POINT,),
)
# As commit 9b9e54c wrote it, and "refit", which came later: keys, order, spacing and the digits of floats.
ON_DISK = """{
 "learning_rate": 1e-05,
 "seed": 3,
 "steps": 6,
 "tokens": 96,
 "tokens_per_second": 1500.0,
 "best_step": 4,
 "best_selection_nats_per_token": 1.25,
 "diverged": false,
 "curve": [
  {
   "step": 4,
   "train_nats_per_token": null,
   "selection_nats_per_token": 1.25
  }
 ],
 "refit": false
}
"""


def trial_in(arm: Path, name: str, record: TrialRecord = RECORD) -> Path:
    folder = arm / TRIALS / name
    folder.mkdir(parents=True)
    record.write(folder)
    return folder


def test_file_has_the_bytes_that_it_always_had(tmp_path: Path) -> None:
    RECORD.write(tmp_path)
    assert (tmp_path / TRIAL_RECORD).read_text() == ON_DISK
    assert [path.name for path in tmp_path.iterdir()] == [TRIAL_RECORD]


def test_record_survives_the_disk(tmp_path: Path) -> None:
    folder = trial_in(tmp_path, "lr-1e-05-seed-3")
    assert TrialRecord.read(folder / TRIAL_RECORD) == RECORD


def test_trial_without_a_finite_evaluation_has_no_best_step(tmp_path: Path) -> None:
    lost = RECORD.model_copy(update={"best_step": None, "best_selection_nats_per_token": None, "curve": ()})
    folder = trial_in(tmp_path, "lost", lost)
    assert TrialRecord.read(folder / TRIAL_RECORD).best_step is None
    assert lost.selection_loss == math.inf


def test_a_diverged_trial_loses_whatever_it_reached_before() -> None:
    assert RECORD.selection_loss == 1.25
    assert RECORD.model_copy(update={"diverged": True}).selection_loss == math.inf


def test_summary_is_what_manifests_hold() -> None:
    expected = {"learning_rate": 1e-5, "seed": 3, "best_selection_nats_per_token": 1.25, "best_step": 4}
    assert RECORD.summary().model_dump() == expected | {"steps": 6, "diverged": False, "refit": False}


def without(key: str) -> str:
    return json.dumps({name: value for name, value in json.loads(ON_DISK).items() if name != key})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting property name"),
        (without("seed"), "seed: Field required"),
        (ON_DISK.replace("1.25", '"low"'), "best_selection_nats_per_token: "),
        (None, "No such file"),
    ],
)
def test_damaged_record_is_refused_with_file_and_remedy(tmp_path: Path, text: str | None, reason: str) -> None:
    path = trial_in(tmp_path / "scratch-0", "t") / TRIAL_RECORD
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(DataError) as caught:
        TrialRecord.read(path)
    assert caught.value.message.startswith(f"{path} is damaged (")
    assert reason in caught.value.message
    assert caught.value.remedy == f"Delete {tmp_path / 'scratch-0'} and run its stage again."


def test_saved_trials_are_the_finished_ones_and_know_their_weights(tmp_path: Path) -> None:
    kept: Any = trial_in(tmp_path, "b")
    for name in (BEST, LAST):
        (kept / name).touch()
    (trial_in(tmp_path, "a") / BEST).touch()  # diverged before its last step
    (tmp_path / TRIALS / "c").mkdir()  # still training
    trials = saved_trials(tmp_path)
    assert [(trial.folder.name, trial.scorable) for trial in trials] == [("a", False), ("b", True)]
    assert (trials[1].best, trials[1].last) == (kept / BEST, kept / LAST)
    assert saved_trials(tmp_path / "none") == []
