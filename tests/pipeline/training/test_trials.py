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
        for name in (LAST,) if trial.is_refit else (BEST, LAST):
            (folder / name).touch()
        if trial.refit_step is not None:
            self._log(trial, step=trial.refit_step, tokens=trial.refit_step, train_nats_per_token=2.0)
            return
        for step, loss in ((2, 3.0), (4, LOSSES[trial.learning_rate]), (6, 2.5)):
            self._log(trial, step=step, tokens=step, evaluation_nats_per_token=loss)
        if trial.learning_rate in self.diverging:
            raise Diverged("it did")

    def _log(self, trial: Trial, **line: float) -> None:
        with (self.folder / METRICS).open("a") as file:
            file.write(json.dumps({**line, "trial": trial.name}) + "\n")

    def run(self, *, refit: bool = True) -> ArmTrials:
        return run_trials(self.folder, list(LOSSES), [1, 2, 3], self.train, refit=refit)


def test_every_seed_is_refitted_with_the_rate_and_the_step_that_the_grid_chose(tmp_path: Path) -> None:
    arm = FakeArm(tmp_path)
    trials = arm.run()
    grid = ["lr-0.1-seed-1", "lr-0.01-seed-1", "lr-0.001-seed-1"]
    assert arm.trained == [*grid, *(f"refit-lr-0.01-seed-{seed}" for seed in (1, 2, 3))]
    assert (trials.best.learning_rate, trials.best.best_step) == (0.01, 4)
    assert [(record.seed, record.steps, record.refit) for record in trials.reported] == [
        (1, 4, True),
        (2, 4, True),
        (3, 4, True),
    ]
    assert [record.best_step for record in trials.reported] == [None] * 3
    assert len(trials.all) == 6


def test_without_refits_the_best_rate_of_the_first_seed_is_repeated_on_the_others(tmp_path: Path) -> None:
    arm = FakeArm(tmp_path)
    trials = arm.run(refit=False)
    assert arm.trained == [
        "lr-0.1-seed-1",
        "lr-0.01-seed-1",
        "lr-0.001-seed-1",
        "lr-0.01-seed-2",
        "lr-0.01-seed-3",
    ]
    assert [record.best_selection_nats_per_token for record in trials.grid] == [2.0, 1.5, 1.7]
    assert [(record.seed, record.best_step) for record in trials.reported] == [(1, 4), (2, 4), (3, 4)]
    assert trials.best.learning_rate == 0.01
    assert len(trials.all) == 5, "the first of the reported is one of the grid"


def test_finished_trials_are_not_repeated(tmp_path: Path) -> None:
    first = FakeArm(tmp_path).run()
    shutil.rmtree(folder_of(tmp_path, Trial(0.01, 3, refit_step=4)))
    again = FakeArm(tmp_path)
    assert again.run().grid == first.grid
    assert again.trained == ["refit-lr-0.01-seed-3"]


def test_diverging_rate_loses_the_grid_whatever_it_reached_before(tmp_path: Path) -> None:
    trials = FakeArm(tmp_path, diverging=(0.01,)).run()
    assert [record.diverged for record in trials.grid] == [False, True, False]
    assert trials.best.learning_rate == 0.001


def test_arm_diverges_only_if_every_rate_does(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"diverged at every learning rate: 0.1, 0.01, 0.001"):
        FakeArm(tmp_path, diverging=tuple(LOSSES)).run()


@pytest.mark.parametrize("refit", [True, False])
def test_weights_of_what_is_not_reported_and_all_checkpoints_are_discarded(tmp_path: Path, refit: bool) -> None:
    discard(tmp_path, FakeArm(tmp_path).run(refit=refit))
    left = {path.name: sorted(file.name for file in path.iterdir()) for path in (tmp_path / TRIALS).iterdir()}
    lost, kept = [TRIAL_RECORD], [*([] if refit else [BEST]), LAST, TRIAL_RECORD]
    reported = {f"{'refit-' if refit else ''}lr-0.01-seed-{seed}": kept for seed in (1, 2, 3)}
    assert left == {**{f"lr-{rate:g}-seed-1": lost for rate in LOSSES}, **reported}
