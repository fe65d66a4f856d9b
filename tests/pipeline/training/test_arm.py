from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpt.model import GPTShape
from pipeline.config.schema import LaunchSection
from pipeline.config.training_sections import FinetuneSection
from pipeline.distributed.job import Job
from pipeline.distributed.world import World
from pipeline.runtime.progress import Progress
from pipeline.saved_models.model_files import BRANCHES, METRICS, SHAPE, TRIALS, WEIGHTS
from pipeline.training import arm
from pipeline.training.arm import ArmTraining, train_arm
from pipeline.training.inputs import TrainingInputs
from pipeline.training.training_plan import BatchGeometry
from pipeline.training.trials import Trial

LOSSES = {0.1: 2.0, 0.01: 1.5}


class FakeMixture:
    context = 16

    def __init__(self, num_samples: int = 100) -> None:
        self.num_samples = num_samples


def arm_in(folder: Path) -> ArmTraining:
    section = FinetuneSection(learning_rates=(0.1, 0.01), seeds=(1, 2, 3), batch_tokens=64, max_steps=40, patience=7)
    config = {"finetune": section.model_dump(mode="json"), "model": {"context": 16}, "deepspeed": {"comms_logger": {}}}
    inputs, fingerprints = {"pretrain": str(folder / "pretrain")}, {"shards": "s"}
    job = Job("finetune", config, inputs, fingerprints, str(folder / "finetune"), LaunchSection())
    shape = GPTShape(vocab_size=11, layers=1, width=8, heads=2, context=16)
    return ArmTraining(
        section=section,
        inputs=TrainingInputs(job, shape, "sha"),
        geometry=BatchGeometry.of("finetune", section, context=16, world_size=1),
        target=FakeMixture(),  # type: ignore[arg-type]
        selection="selection windows",  # type: ignore[arg-type]
        refit=FakeMixture(110),  # type: ignore[arg-type]
        world=World(),
        progress=Progress("finetune"),
        folder=folder / "finetune",
    )


def test_a_trial_follows_its_rate_and_seed_and_the_arm_the_rest(tmp_path: Path) -> None:
    training = arm_in(tmp_path)
    spec = training.spec(Trial(0.01, 2), tmp_path / "trial")
    assert (spec.plan.schedule.peak, spec.plan.seed, spec.batches.seed) == (0.01, 2, 2)
    assert (spec.plan.steps, spec.plan.patience, spec.batches.batch_samples) == (40, 7, 4)
    assert (spec.identity["learning_rate"], spec.identity["seed"]) == (0.01, 2)
    assert (spec.trial, spec.folder, spec.metrics_folder) == (
        "lr-0.01-seed-2",
        tmp_path / "trial",
        tmp_path / "finetune",
    )
    assert spec.held_out is training.selection
    assert spec.deepspeed == {"comms_logger": {}}


def test_a_refit_is_the_chosen_trial_in_epochs_of_the_larger_text_and_sees_nothing_that_chose(tmp_path: Path) -> None:
    training = arm_in(tmp_path)
    spec = training.spec(Trial(0.01, 2, refit_step=30), tmp_path / "trial")
    assert spec.batches.mixture is training.refit
    assert (spec.held_out, spec.keeps_best, spec.plan.patience) == (None, False, 0)
    # 40 steps of 100 samples are as many epochs as 44 of 110; and it stops where step 30 was.
    assert (spec.plan.schedule.steps, spec.plan.steps) == (44, 33)
    assert (spec.plan.schedule.peak, spec.plan.seed, spec.identity["stop_at"]) == (0.01, 2, 33)
    assert spec.trial == "refit-lr-0.01-seed-2"


@pytest.mark.parametrize(
    ("trial", "place"),
    [
        (Trial(0.1, 1), "1 of 5"),
        (Trial(0.01, 1), "2 of 5"),
        (Trial(0.1, 1, refit_step=3), "3 of 5"),
        (Trial(0.1, 3, refit_step=3), "5 of 5"),
    ],
)
def test_operator_reads_which_trial_of_the_arm_it_is(tmp_path: Path, trial: Trial, place: str) -> None:
    assert arm_in(tmp_path).spec(trial, tmp_path).label == f"{trial.name} ({place})"


def test_a_branch_is_the_same_arm_from_other_weights_into_another_folder(tmp_path: Path) -> None:
    whole = arm_in(tmp_path)
    weights = tmp_path / "pretrain" / BRANCHES / "step-00000004" / WEIGHTS
    branch = whole.from_branch(weights)
    assert branch == replace(whole, start=weights, folder=tmp_path / "finetune" / BRANCHES / "step-00000004")
    assert branch.spec(Trial(0.1, 1), tmp_path).label == "lr-0.1-seed-1 (step-00000004)"


@pytest.fixture
def counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_rank: None) -> Any:
    """The counts of an arm with one branch whose trials are trained in no time; the loss depends on the rate alone."""

    def train(self: ArmTraining, trial: Trial, folder: Path) -> None:
        reached = {"trial": trial.name, "step": trial.refit_step or 40, "tokens": 100 * trial.seed}
        step = {"train_nats_per_token": 2.5, "tokens_per_second": 1000.0 * trial.seed, "seconds": 1.0}
        with (self.folder / METRICS).open("a") as file:
            evaluation = {"evaluation_nats_per_token": LOSSES[trial.learning_rate]}
            for line in (step,) if trial.is_refit else (step, evaluation):
                file.write(json.dumps(reached | line) + "\n")

    whole = arm_in(tmp_path)
    start = tmp_path / "pretrain" / BRANCHES / "step-00000004" / WEIGHTS
    start.parent.mkdir(parents=True)
    start.touch()
    monkeypatch.setattr(arm.ArmTraining, "train_trial", train)
    monkeypatch.setattr(arm.ArmTraining, "of", classmethod(lambda *_: whole))
    return train_arm(whole.inputs.job, whole.world, whole.progress)


def test_counts_are_those_of_every_trial_once(counts: Any, tmp_path: Path) -> None:
    assert counts.learning_rate == 0.01
    assert [(summary.learning_rate, summary.seed) for summary in counts.grid] == [(0.1, 1), (0.01, 1)]
    assert [(summary.learning_rate, summary.seed) for summary in counts.trials] == [(0.01, 1), (0.01, 2), (0.01, 3)]
    assert all(summary.refit and summary.steps == counts.chosen_step == 40 for summary in counts.trials)
    assert counts.tokens == 100 + 100 + 100 + 200 + 300, "the grid, and a refit of every seed"
    assert counts.tokens_per_second == 1000, "the median of three times 1000, 2000 and 3000"
    assert (tmp_path / "finetune" / SHAPE).is_file()


def test_a_branch_is_finetuned_with_the_whole_grid_on_one_seed(counts: Any, tmp_path: Path) -> None:
    (branch,) = counts.branches
    assert (branch.branch, branch.learning_rate, branch.tokens) == ("step-00000004", 0.01, 300)
    assert [summary.seed for summary in branch.grid + branch.trials] == [1, 1, 1]
    trials = tmp_path / "finetune" / BRANCHES / "step-00000004" / TRIALS
    assert sorted(path.name for path in trials.iterdir()) == [
        "lr-0.01-seed-1",
        "lr-0.1-seed-1",
        "refit-lr-0.01-seed-1",
    ]
