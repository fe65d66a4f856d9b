from __future__ import annotations

from typing import Any

import pytest

from pipeline.config.training_sections import PretrainSection
from pipeline.errors import ConfigError
from pipeline.training.training_plan import BatchGeometry, Branch, TrainingPlan, branches_of


def geometry(ranks: int, batch_tokens: int = 8192, micro_batch: int = 16) -> BatchGeometry:
    section = PretrainSection(batch_tokens=batch_tokens, micro_batch=micro_batch)
    return BatchGeometry.of("pretrain", section, context=256, world_size=ranks)


@pytest.mark.parametrize(
    ("ranks", "tokens", "micro", "expected"),
    [
        (1, 8192, 16, (16, 2)),
        (2, 8192, 16, (16, 1)),
        (2, 8192, 4, (4, 4)),
        (4, 8192, 16, (8, 1)),  # a rank's share of 8 samples is below the micro-batch, which shrinks to it
        (1, 256, 16, (1, 1)),
    ],
)
def test_batch_is_cut_evenly(ranks: int, tokens: int, micro: int, expected: tuple[int, int]) -> None:
    cut = geometry(ranks, batch_tokens=tokens, micro_batch=micro)
    assert (cut.micro_batch, cut.accumulation) == expected
    assert cut.batch_samples * cut.context == tokens


@pytest.mark.parametrize(("ranks", "tokens", "micro"), [(3, 8192, 16), (1, 100, 16), (1, 24 * 256, 16)])
def test_impossible_cut_is_refused_with_one_that_works(ranks: int, tokens: int, micro: int) -> None:
    with pytest.raises(ConfigError, match=f"pretrain.batch_tokens is {tokens:,}, not a multiple of") as caught:
        geometry(ranks, batch_tokens=tokens, micro_batch=micro)
    cure = int(caught.value.remedy.split()[1].strip(",").replace(",", ""))
    assert geometry(ranks, batch_tokens=cure, micro_batch=micro).batch_samples * 256 == cure


def test_plan_evaluates_and_saves_at_its_multiples_and_evaluates_at_the_end() -> None:
    section = PretrainSection(evaluate_every=4, save_every=3, warmup=0.1, decay=0.25)
    plan = TrainingPlan.of(section, steps=10, peak=1e-3, seed=0, geometry=geometry(1))
    assert [step for step in range(1, 11) if plan.evaluates_at(step)] == [4, 8, 10]
    assert [step for step in range(1, 11) if plan.saves_at(step)] == [3, 6, 9]
    assert (plan.schedule.warmup_steps, plan.schedule.decay_steps) == (1, 3)


def test_zero_switches_evaluation_and_saving_off() -> None:
    plan = TrainingPlan.of(
        PretrainSection(evaluate_every=0, save_every=0), steps=10, peak=1e-3, seed=0, geometry=geometry(1)
    )
    assert [step for step in range(1, 11) if plan.evaluates_at(step)] == [10]
    assert not any(plan.saves_at(step) for step in range(1, 11))


def test_branches_leave_early_enough_to_decay() -> None:
    section = PretrainSection(tokens=100 * 8192, branch_at=(50, 20), decay=0.3)
    assert branches_of(section) == (Branch(20, fork=14), Branch(50, fork=35))
    assert branches_of(PretrainSection()) == ()


def test_a_branch_follows_the_whole_schedule_up_to_its_fork_and_then_decays() -> None:
    section = PretrainSection(tokens=100 * 8192, branch_at=(20,), decay=0.3, warmup=0.02)
    whole = TrainingPlan.of(section, steps=100, peak=1.0, seed=0, geometry=geometry(1))
    branch = whole.branched(branches_of(section)[0], section.decay)
    assert branch.steps == 20
    assert [branch.schedule.rate(step) for step in range(14)] == [whole.schedule.rate(step) for step in range(14)]
    assert [branch.schedule.rate(step) for step in range(14, 20)] == pytest.approx(
        [1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    )


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"schedule": "cosine", "branch_at": (20,)}, r"needs schedule wsd.* it is cosine"),
        ({"branch_at": (20,), "decay": 0.0}, "needs pretrain.decay: .* and it is 0"),
        ({"branch_at": (2,)}, r"branch_at has 2, which leaves at step 1; the warmup of 2 steps must be over"),
        ({"branch_at": (100,)}, r"pretraining itself ends at 100"),
    ],
)
def test_branches_that_would_not_be_a_shorter_pretraining_are_refused(changes: dict[str, Any], refusal: str) -> None:
    with pytest.raises(ConfigError, match=refusal):
        branches_of(PretrainSection(**{"tokens": 100 * 8192, "decay": 0.3, "warmup": 0.02, **changes}))
