from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline.errors import Diverged
from pipeline.saved_models.model_files import LAST
from pipeline.training.fit import BEST
from pipeline.training.metrics import METRICS
from pipeline.training.trials import Trial, discard, folder_of, run_trials

pytestmark = pytest.mark.usefixtures("one_rank")

LOSSES = {0.1: 2.0, 0.01: 1.5, 0.001: 1.7}


class Arm:
    """Trials whose best loss depends on the learning rate alone; `diverging` rates do not survive."""

    def __init__(self, folder: Path, diverging: tuple[float, ...] = ()) -> None:
        self.folder = folder
        self.diverging = diverging
        self.carried_out: list[str] = []

    def carry_out(self, trial: Trial, folder: Path) -> None:
        self.carried_out.append(trial.name)
        (folder / "checkpoints").mkdir()
        for name in (BEST, LAST):
            (folder / name).touch()
        for step, loss in ((2, 3.0), (4, LOSSES[trial.learning_rate]), (6, 2.5)):
            self._log(trial, step=step, tokens=step, evaluation_nats_per_token=loss)
        if trial.learning_rate in self.diverging:
            raise Diverged("it did")

    def _log(self, trial: Trial, **line: float) -> None:
        with (self.folder / METRICS).open("a") as file:
            file.write(json.dumps({**line, "trial": trial.name}) + "\n")

    def run(self) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
        return run_trials(self.folder, list(LOSSES), [1, 2, 3], self.carry_out)


def test_best_rate_of_the_first_seed_is_repeated_on_the_others(tmp_path: Path) -> None:
    arm = Arm(tmp_path)
    grid, chosen = arm.run()
    assert arm.carried_out == [
        "lr-0.1-seed-1",
        "lr-0.01-seed-1",
        "lr-0.001-seed-1",
        "lr-0.01-seed-2",
        "lr-0.01-seed-3",
    ]
    assert [result["best_selection_nats_per_token"] for result in grid] == [2.0, 1.5, 1.7]
    assert [(result["seed"], result["best_step"]) for result in chosen] == [(1, 4), (2, 4), (3, 4)]


def test_finished_trials_are_not_repeated(tmp_path: Path) -> None:
    first = Arm(tmp_path).run()
    shutil.rmtree(folder_of(tmp_path, Trial(0.01, 3)))
    again = Arm(tmp_path)
    assert again.run()[0] == first[0]
    assert again.carried_out == ["lr-0.01-seed-3"]


def test_diverging_rate_loses_the_grid_whatever_it_reached_before(tmp_path: Path) -> None:
    grid, chosen = Arm(tmp_path, diverging=(0.01,)).run()
    assert [result["diverged"] for result in grid] == [False, True, False]
    assert chosen[0]["learning_rate"] == 0.001


def test_arm_diverges_only_if_every_rate_does(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"diverged at every learning rate: 0.1, 0.01, 0.001"):
        Arm(tmp_path, diverging=tuple(LOSSES)).run()


def test_weights_of_other_rates_and_all_checkpoints_are_discarded(tmp_path: Path) -> None:
    Arm(tmp_path).run()
    discard(tmp_path, 0.01)
    left = {path.name: sorted(file.name for file in path.iterdir()) for path in (tmp_path / "trials").iterdir()}
    everything = [BEST, LAST, "trial.json"]
    assert left == {
        "lr-0.1-seed-1": ["trial.json"],
        "lr-0.001-seed-1": ["trial.json"],
        **{f"lr-0.01-seed-{seed}": everything for seed in (1, 2, 3)},
    }
