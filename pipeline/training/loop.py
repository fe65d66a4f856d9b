"""The training loop: pretraining, scratch and finetuning are this one loop with different inputs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Protocol

import torch

from pipeline.distributed import fault_injection
from pipeline.distributed.heartbeat import heartbeat
from pipeline.distributed.signals import Stop
from pipeline.errors import Diverged, Preempted
from pipeline.runtime.formatting import counted
from pipeline.training.engine import Engine, MicroBatch
from pipeline.training.state import State, StepResult
from pipeline.training.training_plan import TrainingPlan


class BatchSource(Protocol):
    """The order of the data: a pure function of the step."""

    def of_step(self, step: int, *, rank: int, world_size: int, micro_batch: int) -> list[MicroBatch]: ...


class Watch(Protocol):
    """Who is told how it goes; only rank 0's does anything."""

    def step(self, state: State, outcome: StepResult, learning_rate: float, seconds: float) -> None: ...
    def evaluation(self, state: State, nats_per_token: float) -> None: ...


def train(
    engine: Engine,
    batches: BatchSource,
    recipe: TrainingPlan,
    state: State,
    *,
    evaluate: Callable[[], float],
    keep_best: Callable[[State], None],
    save: Callable[[State], None],
    watch: Watch,
    stop: Stop,
) -> State:
    """Train from `state` to the end of the recipe, or until its patience is over.

    Raises Diverged when too many steps in a row had no finite loss or gradient, and Preempted, after saving, when any
    rank was asked to stop.
    """
    world, geometry = engine.world, recipe.geometry
    while state.step < recipe.steps and not out_of_patience(recipe, state):
        started = time.perf_counter()
        heartbeat.beat(state.step)
        torch.manual_seed(random_seed(recipe.seed, state.step, world.rank))
        learning_rate = recipe.schedule.rate(state.step)
        batch = batches.of_step(
            state.step, rank=world.rank, world_size=world.world_size, micro_batch=geometry.micro_batch
        )
        engine.begin(batch, learning_rate, step=state.step)
        for inputs, targets in batch:
            engine.backward(inputs, targets)
        outcome = engine.step(stop=stop.requested())
        state = state.after_step(outcome)

        watch.step(state, outcome, learning_rate, time.perf_counter() - started)
        refuse_divergence(recipe, state)
        if recipe.evaluates_at(state.step):
            state = state.after_evaluation(nats_per_token := evaluate())
            watch.evaluation(state, nats_per_token)
            if state.best_step == state.step:
                keep_best(state)
        if outcome.stop or recipe.saves_at(state.step):
            save(state)
        if outcome.stop:
            raise Preempted(f"Stopped and saved at step {state.step:,}.", remedy="Run the same command to go on.")
        fault_injection.inject("step", rank=world.rank, step=state.step)
    return state


def out_of_patience(recipe: TrainingPlan, state: State) -> bool:
    return 0 < recipe.patience <= state.evaluations_since_best


def random_seed(*key: int) -> int:
    """A seed for whatever is random in a step, a pure function of the key: nothing to save, nothing to restore."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def refuse_divergence(recipe: TrainingPlan, state: State) -> None:
    """Raise Diverged when more steps in a row were skipped than the recipe forgives."""
    if state.skipped_in_a_row <= recipe.skip_limit:
        return
    raise Diverged(
        f"Training diverged: loss or gradient was not finite at {counted(state.skipped_in_a_row, 'step')} in a row, "
        f"up to step {state.step:,}.",
        remedy="Lower the learning rate, or raise warmup; `folio data show` names the documents of a step.",
    )
