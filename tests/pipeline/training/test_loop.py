"""What the loop does when, with an engine whose losses are given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from pipeline.config.training_sections import PretrainSection
from pipeline.distributed.world import World
from pipeline.errors import Diverged, Preempted
from pipeline.training.engine import MicroBatch
from pipeline.training.loop import random_seed, train
from pipeline.training.metrics import Unwatched
from pipeline.training.state import State, StepResult
from pipeline.training.training_plan import BatchGeometry, TrainingPlan

STEPS = 10


class FakeEngine:
    world = World()

    def __init__(self, bad: Sequence[int]) -> None:
        self.bad = bad
        self.rates: list[float] = []
        self._step = 0

    def begin(self, batch: Sequence[MicroBatch], learning_rate: float, *, step: int) -> None:
        self.rates.append(learning_rate)
        self._step = step

    def backward(self, inputs: Any, targets: Any) -> None: ...

    def step(self, stop: bool) -> StepResult:
        bad = self._step in self.bad
        return StepResult(math.nan if bad else 1.0, 16, math.nan if bad else 1.0, skipped=bad, stop=stop)


class FakeBatches:
    def __init__(self) -> None:
        self.steps: list[int] = []

    def of_step(self, step: int, **place: int) -> list[MicroBatch]:
        self.steps.append(step)
        return []


class StopAt:
    """Asks to stop once the loop has looked `looks` times."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def requested(self) -> bool:
        self.looks -= 1
        return self.looks < 0


class Journal:
    def __init__(self, losses: Sequence[float] = (), **changes: Any) -> None:
        self.losses = list(losses)
        self.saved: list[int] = []
        self.best: list[int] = []
        self.batches = FakeBatches()
        section = PretrainSection(batch_tokens=16, evaluate_every=2, save_every=4, skip_limit=1)
        geometry = BatchGeometry(context=16, world_size=1, micro_batch=1, accumulation=1)
        self.plan = replace(TrainingPlan.of(section, steps=STEPS, peak=1.0, seed=0, geometry=geometry), **changes)

    def train(self, state: State | None = None, *, bad: Sequence[int] = (), looks: int = 99, **more: Any) -> State:
        evaluate = more.get("evaluate", lambda: self.losses.pop(0) if self.losses else 1.0)
        return train(
            FakeEngine(bad),  # type: ignore[arg-type]
            self.batches,
            self.plan,
            state or State(),
            evaluate=evaluate,
            keep_best=lambda state: self.best.append(state.step),
            save=lambda state: self.saved.append(state.step),
            watch=Unwatched(),
            stop=StopAt(looks),  # type: ignore[arg-type]
        )


def test_loop_takes_every_step_once_and_saves_at_its_multiples() -> None:
    journal = Journal()
    state = journal.train()
    assert journal.batches.steps == list(range(STEPS))
    assert journal.saved == [4, 8]
    assert (state.step, state.tokens) == (STEPS, 16 * STEPS)


def test_loop_goes_on_from_where_the_state_stands() -> None:
    journal = Journal()
    journal.train(State(step=7))
    assert journal.batches.steps == [7, 8, 9]


def test_without_held_out_text_training_goes_to_its_end_and_keeps_no_best_step() -> None:
    journal = Journal(patience=1)
    state = journal.train(evaluate=None)
    assert (state.step, state.best_step, journal.best, journal.saved) == (STEPS, None, [], [4, 8])


def test_best_weights_are_kept_whenever_the_evaluation_improves() -> None:
    journal = Journal([3.0, 2.0, 2.5, 1.5, 1.6])
    state = journal.train()
    assert journal.best == [2, 4, 8]
    assert (state.best_step, state.best_nats_per_token) == (8, 1.5)


def test_patience_ends_training_after_so_many_evaluations_without_improvement() -> None:
    journal = Journal([3.0, 2.0, 2.5, 2.5, 1.0], patience=2)
    assert journal.train().step == 8
    assert journal.train(State(step=8, evaluations_since_best=2)).step == 8


def test_forgiven_steps_are_skipped_and_one_more_in_a_row_diverges() -> None:
    assert Journal().train(bad=[2, 4, 6]).skipped == 3
    journal = Journal()
    with pytest.raises(Diverged, match="at 2 steps in a row, up to step 6"):
        journal.train(bad=[2, 4, 5])
    assert journal.saved == [4]


def test_stop_saves_before_it_leaves() -> None:
    journal = Journal()
    with pytest.raises(Preempted, match="saved at step 3"):
        journal.train(looks=2)
    assert journal.saved == [3]


def test_random_seeds_differ_by_seed_step_and_rank() -> None:
    seeds = {random_seed(seed, step, rank) for seed in range(3) for step in range(3) for rank in range(3)}
    assert len(seeds) == 27
    assert random_seed(1, 2, 3) == 2904650318439132554  # another value would change every training with dropout
