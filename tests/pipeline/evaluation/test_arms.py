from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DataError
from pipeline.evaluation.arms import read_arm
from pipeline.graph.work import Artifact


@pytest.fixture
def artifact(chain: Any, tmp_path: Path) -> Artifact:
    """A copy of the scratch artifact that a test may change."""
    original = chain.artifacts["scratch"]
    return replace(original, folder=Path(shutil.copytree(original.folder, tmp_path / "scratch")))


@pytest.fixture
def trials_reported(artifact: Artifact) -> Artifact:
    """The same without refits: two seeds of the chosen rate as trials, with their weights."""
    from tests.pipeline.conftest import trial_record

    trials = artifact.folder / "trials"
    for seed in (1, 2):
        refit, folder = trials / f"refit-lr-0.002-seed-{seed}", trials / f"lr-0.002-seed-{seed}"
        folder.mkdir(exist_ok=True)
        trial_record(2e-3, seed).write(folder)
        shutil.copy(refit / "last.safetensors", folder / "best.safetensors")
        shutil.move(refit / "last.safetensors", folder / "last.safetensors")
        shutil.rmtree(refit)
    summaries = [trial_record(2e-3, seed).summary().model_dump(mode="json") for seed in (1, 2)]
    counts = artifact.manifest.counts | {"trials": summaries}
    return replace(artifact, manifest=artifact.manifest.model_copy(update={"counts": counts}))


def test_what_is_reported_are_the_refits_by_seed(artifact: Artifact) -> None:
    arm = read_arm(artifact)
    assert [trial.record.learning_rate for trial in arm.trials] == [2e-3, 2e-3]
    assert (arm.seeds, arm.steps_per_seed, arm.best_step_per_seed) == ((1, 2), (21, 21), (21, 21))
    assert [trial.learning_rate for trial in arm.grid] == [1e-3, 2e-3, 4e-3]
    assert [record.learning_rate for record in arm.grid_records] == [1e-3, 2e-3, 4e-3]
    assert (arm.refitted, arm.best_of_grid.best_step) == (True, 20)
    names = [f"refit-lr-0.002-seed-{seed}/last.safetensors" for seed in (1, 2)]
    assert [str(path.relative_to(artifact.folder / "trials")) for path in arm.weights] == names
    assert arm.last_weights == arm.weights


def test_without_refits_it_is_the_trials_of_the_chosen_rate_at_their_best_steps(trials_reported: Artifact) -> None:
    arm = read_arm(trials_reported)
    assert (arm.refitted, arm.seeds, arm.steps_per_seed, arm.best_step_per_seed) == (False, (1, 2), (30, 30), (20, 20))
    assert [path.name for path in arm.weights] == ["best.safetensors"] * 2
    assert [path.parent.name for path in arm.last_weights] == ["lr-0.002-seed-1", "lr-0.002-seed-2"]


def test_a_seed_without_weights_is_left_out_by_name(artifact: Artifact) -> None:
    (artifact.folder / "trials" / "refit-lr-0.002-seed-2" / "last.safetensors").unlink()
    arm = read_arm(artifact)
    assert arm.seeds == (1,)
    assert arm.diverged_seeds == (2,)


def test_an_arm_without_weights_is_refused(artifact: Artifact) -> None:
    for path in artifact.folder.glob("trials/*/last.safetensors"):
        path.unlink()
    with pytest.raises(DataError, match=r"no weights of the chosen learning rate 0\.002"):
        read_arm(artifact)


@pytest.mark.parametrize("text", ["{", '{"seed": 1}'])
def test_a_damaged_trial_is_refused_by_name(artifact: Artifact, text: str) -> None:
    (artifact.folder / "trials" / "lr-0.002-seed-1" / "trial.json").write_text(text)
    with pytest.raises(DataError, match=r"trial\.json is damaged"):
        read_arm(artifact)
