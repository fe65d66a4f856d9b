from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline.errors import Diverged
from pipeline.saved_models.model_files import BEST, CHECKPOINTS, LAST, METRICS, TRIAL_RECORD, TRIALS
from pipeline.training.trials import ArmTrials, Trial, discard, folder_of, run_trials

pytestmark = pytest.mark.usefixtures("one_rank")

LOSSES = {0.1: 2.0, 0.01: 1.5, 0.001: 1.7}


class FakeArm:
    """Trials whose best loss depends on the learning rate alone; `diverging` rates do not survive."""

    def __init__(self, folder: Path, diverging: tuple[float, ...] = ()) -> None:
        self.folder = folder
        self.diverging = diverging
        self.trained: list[str] = []

    def train(self, trial: Trial, folder: Path) -> None:
        self.trained.append(trial.name)
        (folder / CHECKPOINTS).mkdir()
        for name in (BEST, LAST):
            (folder / name).touch()
        for step, loss in ((2, 3.0), (4, LOSSES[trial.learning_rate]), (6, 2.5)):
            self._log(trial, step=step, tokens=step, evaluation_nats_per_token=loss)
        if trial.learning_rate in self.diverging:
            raise Diverged("it did")

    def _log(self, trial: Trial, **line: float) -> None:
        with (self.folder / METRICS).open("a") as file:
            file.write(json.dumps({**line, "trial": trial.name}) + "\n")

    def run(self) -> ArmTrials:
        return run_trials(self.folder, list(LOSSES), [1, 2, 3], self.train)


def test_best_rate_of_the_first_seed_is_repeated_on_the_others(tmp_path: Path) -> None:
    arm = FakeArm(tmp_path)
    trials = arm.run()
    assert arm.trained == [
        "lr-0.1-seed-1",
        "lr-0.01-seed-1",
        "lr-0.001-seed-1",
        "lr-0.01-seed-2",
        "lr-0.01-seed-3",
    ]
    assert [record.best_selection_nats_per_token for record in trials.grid] == [2.0, 1.5, 1.7]
    assert [(record.seed, record.best_step) for record in trials.chosen] == [(1, 4), (2, 4), (3, 4)]
    assert trials.learning_rate == 0.01


def test_finished_trials_are_not_repeated(tmp_path: Path) -> None:
    first = FakeArm(tmp_path).run()
    shutil.rmtree(folder_of(tmp_path, Trial(0.01, 3)))
    again = FakeArm(tmp_path)
    assert again.run().grid == first.grid
    assert again.trained == ["lr-0.01-seed-3"]


def test_diverging_rate_loses_the_grid_whatever_it_reached_before(tmp_path: Path) -> None:
    trials = FakeArm(tmp_path, diverging=(0.01,)).run()
    assert [record.diverged for record in trials.grid] == [False, True, False]
    assert trials.learning_rate == 0.001


def test_arm_diverges_only_if_every_rate_does(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"diverged at every learning rate: 0.1, 0.01, 0.001"):
        FakeArm(tmp_path, diverging=tuple(LOSSES)).run()


def test_weights_of_other_rates_and_all_checkpoints_are_discarded(tmp_path: Path) -> None:
    FakeArm(tmp_path).run()
    discard(tmp_path, 0.01)
    left = {path.name: sorted(file.name for file in path.iterdir()) for path in (tmp_path / TRIALS).iterdir()}
    everything = [BEST, LAST, TRIAL_RECORD]
    assert left == {
        "lr-0.1-seed-1": [TRIAL_RECORD],
        "lr-0.001-seed-1": [TRIAL_RECORD],
        **{f"lr-0.01-seed-{seed}": everything for seed in (1, 2, 3)},
    }
