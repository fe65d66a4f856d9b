from __future__ import annotations

import json
import math

import pytest

from pipeline.training.state import State, StepResult


def result(nats: float = 2.0, *, skipped: bool = False) -> StepResult:
    return StepResult(nats, 64, math.inf if skipped else 1.0, skipped=skipped, stop=False)


def test_skipped_step_moves_the_data_on_but_keeps_the_last_good_loss() -> None:
    state = State().after_step(result(3.0)).after_step(result(math.nan, skipped=True))
    assert (state.step, state.tokens, state.skipped, state.skipped_in_a_row) == (2, 128, 1, 1)
    assert state.nats_per_token == 3.0
    assert state.after_step(result()).skipped_in_a_row == 0


def test_only_a_lower_loss_is_an_improvement() -> None:
    state = State(step=5).after_evaluation(1.0)
    assert (state.best_step, state.best_nats_per_token, state.evaluations_since_best) == (5, 1.0, 0)
    for loss in (1.0, 1.5, math.nan, math.inf):
        state = state.after_evaluation(loss)
    assert (state.best_step, state.best_nats_per_token, state.evaluations_since_best) == (5, 1.0, 4)
    assert state.after_evaluation(0.0).best_nats_per_token == 0.0
    assert state.after_evaluation(0.0).after_evaluation(0.5).best_nats_per_token == 0.0


def test_state_survives_json_to_the_last_digit() -> None:
    state = State(step=3, nats_per_token=0.1 + 0.2, best_step=2, best_nats_per_token=1 / 3, recent=(0.1 + 0.2, 1 / 3))
    assert State.from_json(json.loads(json.dumps(state.to_json()))) == state


def test_a_spike_is_far_above_the_median_and_neither_moves_it_nor_hides_the_next() -> None:
    state = State()
    for number in range(40):
        assert state.highest_loss(6.0) == math.inf or number >= 32
        state = state.after_step(result(4.0 + (number % 5) / 10))
    # Median 4.2, median absolute deviation 0.1.
    assert state.highest_loss(6.0) == pytest.approx(4.2 + 6 * 1.4826 * 0.1)
    assert state.highest_loss(None) == math.inf
    spiked = state.after_step(result(9.0, skipped=True))
    assert spiked.highest_loss(6.0) == state.highest_loss(6.0)
    assert len(state.after_step(result()).recent) == 41
    for _ in range(100):
        state = state.after_step(result())
    assert len(state.recent) == 64
