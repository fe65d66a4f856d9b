from __future__ import annotations

from typing import Any

import pytest

from pipeline.graph.stage_counts import PretrainCounts, PretrainedBranch
from pipeline.training.pretrain import branch_counts, pretrain_counts
from pipeline.training.state import State
from pipeline.training.training_plan import Branch


def step(number: int, loss: float | None = None, **more: Any) -> dict[str, Any]:
    line = {"step": number, "tokens": 64 * number, "train_nats_per_token": loss, "seconds": 0.5}
    return line | {"tokens_per_second": 100.0 * number} | more


def evaluation(number: int, loss: float) -> dict[str, Any]:
    return {"step": number, "tokens": 64 * number, "evaluation_nats_per_token": loss}


def test_counts_are_read_off_the_metrics_and_the_last_state() -> None:
    # 40 steps, so the tail of 5 % is two steps; one of them was skipped.
    lines = [step(number, 5.0) for number in range(1, 39)]
    lines += [evaluation(38, 4.5), step(39, 3.0), step(40, None, skipped=True), evaluation(40, 3.5)]
    branch = PretrainedBranch(branch="step-00000020", steps=20, tokens=1280, val_nats_per_token=4.0)
    state = State(step=40, tokens=2560, skipped=1)
    sizes = {"batch_tokens": 64, "held_out_tokens": 32, "parameters": 9}
    assert pretrain_counts(lines, state, **sizes, branches=(branch,)) == PretrainCounts(
        tokens=2560,
        steps=40,
        batch_tokens=64,
        train_nats_per_token=3.0,
        val_nats_per_token=3.5,
        held_out_tokens=32,
        tokens_per_second=2050.0,
        skipped_steps=1,
        parameters=9,
        branches=(branch,),
    )


def test_a_short_pretraining_reports_its_last_step() -> None:
    lines = [step(1, 5.0), step(2, 4.0), evaluation(2, 4.5)]
    counts = pretrain_counts(lines, State(step=2, tokens=128), batch_tokens=64, held_out_tokens=32, parameters=9)
    assert counts.train_nats_per_token == 4.0
    assert counts.tokens_per_second == pytest.approx(150.0)


def test_a_branch_reports_its_last_evaluation() -> None:
    lines = [evaluation(4, 3.0), step(5, 2.0), evaluation(6, 2.5)]
    expected = PretrainedBranch(branch="step-00000006", steps=6, tokens=384, val_nats_per_token=2.5)
    assert branch_counts(Branch(6, fork=4), lines) == expected


def test_without_held_out_text_nothing_is_said_of_a_validation_loss() -> None:
    lines = [step(1, 5.0), step(2, 4.0)]
    counts = pretrain_counts(lines, State(step=2, tokens=128), batch_tokens=64, held_out_tokens=0, parameters=9)
    assert (counts.train_nats_per_token, counts.val_nats_per_token, counts.held_out_tokens) == (4.0, None, 0)
    branch = branch_counts(Branch(2, fork=1), lines)
    assert branch == PretrainedBranch(branch="step-00000002", steps=2, tokens=128, val_nats_per_token=None)
