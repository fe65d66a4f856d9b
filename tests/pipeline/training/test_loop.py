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
from pipeline.training.loop import Training, random_seed
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

    def begin(self, batch: Sequence[MicroBatch], learning_rate: float, *, step: int, highest_loss: float) -> None:
        self.rates.append(learning_rate)
        self._step = step

    def backward(self, inputs: Any, targets: Any) -> None: ...

    def step(self, *, stop: bool, written: bool) -> StepResult:
        bad = self._step in self.bad
        loss = math.nan if bad else 1.0
        return StepResult(loss, 16, loss, skipped=bad, stop=stop, written=written)


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


class FakeCheckpoints:
    """Takes two steps to write one."""

    def __init__(self) -> None:
        self.saved: list[int] = []
        self.committed: list[int] = []
        self._looks = 0

    def save(self, state: State) -> None:
        self.commit()
        self.saved.append(state.step)
        self._looks = 0

    def written(self) -> bool:
        self._looks += 1
        return len(self.committed) < len(self.saved) and self._looks > 1

    def commit(self) -> None:
        self.committed = list(self.saved)


class Journal:
    def __init__(self, losses: Sequence[float] = (), **changes: Any) -> None:
        self.losses = list(losses)
        self.checkpoints = FakeCheckpoints()
        self.best: list[int] = []
        self.batches = FakeBatches()
        section = PretrainSection(batch_tokens=16, evaluate_every=2, save_every=4, skip_limit=1)
        geometry = BatchGeometry(context=16, world_size=1, micro_batch=1, accumulation=1)
        self.plan = replace(TrainingPlan.of(section, steps=STEPS, peak=1.0, seed=0, geometry=geometry), **changes)

    def train(self, state: State | None = None, *, bad: Sequence[int] = (), looks: int = 99, **more: Any) -> State:
        evaluate = more.get("evaluate", lambda: self.losses.pop(0) if self.losses else 1.0)
        return Training(
            FakeEngine(bad),  # type: ignore[arg-type]
            self.batches,
            self.plan,
            evaluate=evaluate,
            keep_best=lambda state: self.best.append(state.step),
            checkpoints=self.checkpoints,
            watch=Unwatched(),
            stop=StopAt(looks),  # type: ignore[arg-type]
        ).train(state or State())


def test_loop_takes_every_step_once_and_saves_at_its_multiples() -> None:
    journal = Journal()
    state = journal.train()
    assert journal.batches.steps == list(range(STEPS))
    assert journal.checkpoints.saved == [4, 8]
    assert (state.step, state.tokens) == (STEPS, 16 * STEPS)


def test_loop_goes_on_from_where_the_state_stands() -> None:
    journal = Journal()
    journal.train(State(step=7))
    assert journal.batches.steps == [7, 8, 9]


def test_without_held_out_text_training_goes_to_its_end_and_keeps_no_best_step() -> None:
    journal = Journal(patience=1)
    state = journal.train(evaluate=None)
    assert (state.step, state.best_step, journal.best, journal.checkpoints.saved) == (STEPS, None, [], [4, 8])


def test_best_weights_are_kept_whenever_the_evaluation_improves() -> None:
    journal = Journal([3.0, 2.0, 2.5, 1.5, 1.6])
    state = journal.train()
    assert journal.best == [2, 4, 8]
    assert (state.best_step, state.best_nats_per_token) == (8, 1.5)


def test_patience_ends_training_after_so_many_evaluations_without_improvement() -> None:
    journal = Journal([3.0, 2.0, 2.5, 2.5, 1.0], patience=2)
    assert journal.train().step == 8
    assert journal.train(State(step=8, evaluations_since_best=2, evaluated=8)).step == 8


def test_forgiven_steps_are_skipped_and_one_more_in_a_row_diverges() -> None:
    assert Journal().train(bad=[2, 4, 6]).skipped == 3
    journal = Journal()
    with pytest.raises(Diverged, match="at 2 steps in a row, up to step 6"):
        journal.train(bad=[2, 4, 5])
    assert journal.checkpoints.saved == [4]


def test_stop_saves_before_it_leaves() -> None:
    journal = Journal()
    with pytest.raises(Preempted, match="saved at step 3"):
        journal.train(looks=2)
    assert journal.checkpoints.saved == [3]


def test_a_checkpoint_is_committed_as_soon_as_it_is_written_and_at_once_where_training_stops() -> None:
    journal = Journal()
    with pytest.raises(Preempted):
        journal.train(looks=5)  # asked for at the sixth step, two after the one that saved
    assert journal.checkpoints.committed == [4, 6]
    journal = Journal()
    journal.train(State(step=4))
    assert (journal.checkpoints.saved, journal.checkpoints.committed) == ([8], [8])


def test_an_evaluation_that_was_cut_short_is_made_up_for_after_the_resume() -> None:
    asked, losses = [None, 2.0, 1.5, 1.0, 1.2], [3.0]
    journal = Journal()
    with pytest.raises(Preempted, match="saved at step 4"):
        journal.train(evaluate=lambda: losses.pop(0) if losses else asked.pop(0))
    assert journal.checkpoints.committed == [4]
    # What was saved has seen step 4, but not its evaluation.
    state = journal.train(
        State(step=4, tokens=64, best_step=2, best_nats_per_token=3.0, evaluated=2), evaluate=lambda: asked.pop(0)
    )
    assert journal.best == [2, 4, 6, 8]
    assert (state.best_step, state.evaluated, asked) == (8, 10, [])


def test_a_stop_does_not_wait_for_an_evaluation() -> None:
    journal = Journal()

    def never() -> float:
        raise AssertionError("the scheduler has no time for it")

    with pytest.raises(Preempted, match="saved at step 2"):
        journal.train(looks=1, evaluate=never)


def test_random_seeds_differ_by_seed_step_and_rank() -> None:
    seeds = {random_seed(seed, step, rank) for seed in range(3) for step in range(3) for rank in range(3)}
    assert len(seeds) == 27
    assert random_seed(1, 2, 3) == 2904650318439132554  # another value would change every training with dropout
