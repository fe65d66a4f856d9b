"""The training loop: pretraining, scratch and finetuning are this one loop with different inputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from pipeline.distributed import fault_injection
from pipeline.distributed.heartbeat import heartbeat
from pipeline.distributed.signals import Stop
from pipeline.errors import Diverged, Preempted
from pipeline.runtime.formatting import counted
from pipeline.tokens.data_order import order_key
from pipeline.training.engine import Engine, MicroBatch
from pipeline.training.state import State, StepResult
from pipeline.training.training_plan import TrainingPlan


class BatchSource(Protocol):
    """The order of the data: a pure function of the step."""

    def of_step(self, step: int, *, rank: int, world_size: int, micro_batch: int) -> list[MicroBatch]: ...


class Watch(Protocol):
    """Is told how the training goes. Only rank 0's does anything."""

    def step(self, state: State, result: StepResult, learning_rate: float, seconds: float) -> None: ...
    def evaluation(self, state: State, nats_per_token: float) -> None: ...


def train(
    engine: Engine,
    batches: BatchSource,
    plan: TrainingPlan,
    state: State,
    *,
    evaluate: Callable[[], float] | None,
    keep_best: Callable[[State], None],
    save: Callable[[State], None],
    watch: Watch,
    stop: Stop,
) -> State:
    """Train from `state` to the end of the plan, or until its patience is over.

    Without held-out text `evaluate` is None. Raises Diverged when too many steps in a row had no finite loss or
    gradient, and Preempted, after saving, when any rank was asked to stop.
    """
    world, geometry = engine.world, plan.geometry
    while state.step < plan.steps and not out_of_patience(plan, state):
        started = time.perf_counter()
        heartbeat.beat(state.step)
        # Seeded anew for every step: after a resume dropout draws what it would have drawn without the interruption.
        torch.manual_seed(random_seed(plan.seed, state.step, world.rank))
        learning_rate = plan.schedule.rate(state.step)
        batch = batches.of_step(
            state.step, rank=world.rank, world_size=world.world_size, micro_batch=geometry.micro_batch
        )
        result = take_step(engine, batch, learning_rate, step=state.step, stop=stop)
        state = state.after_step(result)

        watch.step(state, result, learning_rate, time.perf_counter() - started)
        refuse_divergence(plan, state)
        if evaluate is not None and plan.evaluates_at(state.step):
            state = state.after_evaluation(nats_per_token := evaluate())
            watch.evaluation(state, nats_per_token)
            if state.best_step == state.step:
                keep_best(state)
        # After the evaluation, so that the checkpoint knows the best step and patience goes on counting from there.
        if result.stop or plan.saves_at(state.step):
            save(state)
        if result.stop:
            raise Preempted(f"Stopped and saved at step {state.step:,}.", remedy="Run the same command to go on.")
        fault_injection.inject("step", rank=world.rank, step=state.step)
    return state


def take_step(
    engine: Engine, batch: Sequence[MicroBatch], learning_rate: float, *, step: int, stop: Stop | None = None
) -> StepResult:
    """One optimizer update on this rank's micro-batches of a batch. Collective.

    `step` only tells the engine where faults are injected. Whether to stop is asked as late as possible, after the
    backwards: their time is most of a step's, so a signal that arrives in it still counts for this step.
    """
    engine.begin(batch, learning_rate, step=step)
    for inputs, targets in batch:
        engine.backward(inputs, targets)
    return engine.step(stop=stop is not None and stop.requested())


def out_of_patience(plan: TrainingPlan, state: State) -> bool:
    return 0 < plan.patience <= state.evaluations_since_best


def random_seed(*key: int) -> int:
    """A seed for whatever is random in a step, a pure function of the key: nothing to save, nothing to restore."""
    return order_key(*key) >> 1  # torch takes seeds of 63 bits


def refuse_divergence(plan: TrainingPlan, state: State) -> None:
    """Raise Diverged when more steps in a row were skipped than the plan forgives."""
    if state.skipped_in_a_row <= plan.skip_limit:
        return
    raise Diverged(
        f"Training diverged: loss or gradient was not finite at {counted(state.skipped_in_a_row, 'step')} in a row, "
        f"up to step {state.step:,}.",
        remedy="Lower the learning rate, or raise warmup; `folio data show` names the documents of a step.",
    )
