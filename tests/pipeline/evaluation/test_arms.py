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


def test_trials_are_those_of_the_chosen_rate_by_seed(artifact: Artifact) -> None:
    arm = read_arm(artifact)
    assert [trial.record.learning_rate for trial in arm.trials] == [2e-3, 2e-3]
    assert (arm.seeds, arm.steps_per_seed, arm.best_step_per_seed) == ((1, 2), (30, 30), (20, 20))
    assert [trial.learning_rate for trial in arm.grid] == [1e-3, 2e-3, 4e-3]
    assert [path.parent.name for path in arm.best_weights] == ["lr-0.002-seed-1", "lr-0.002-seed-2"]


def test_a_seed_without_weights_is_left_out_by_name(artifact: Artifact) -> None:
    (artifact.folder / "trials" / "lr-0.002-seed-2" / "best.safetensors").unlink()
    arm = read_arm(artifact)
    assert arm.seeds == (1,)
    assert arm.diverged_seeds == (2,)


def test_an_arm_without_weights_is_refused(artifact: Artifact) -> None:
    for path in artifact.folder.glob("trials/*/best.safetensors"):
        path.unlink()
    with pytest.raises(DataError, match=r"no weights of the chosen learning rate 0\.002"):
        read_arm(artifact)


@pytest.mark.parametrize("text", ["{", '{"seed": 1}'])
def test_a_damaged_trial_is_refused_by_name(artifact: Artifact, text: str) -> None:
    (artifact.folder / "trials" / "lr-0.002-seed-1" / "trial.json").write_text(text)
    with pytest.raises(DataError, match=r"trial\.json is damaged"):
        read_arm(artifact)
