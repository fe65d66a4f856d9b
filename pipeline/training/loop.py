"""The training loop: pretraining, scratch and finetuning are this one loop with different inputs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

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


class Saves(Protocol):
    """Where checkpoints go. `save` begins one, `commit` finishes it; both are collective."""

    def save(self, state: State) -> None: ...
    def written(self) -> bool: ...
    def commit(self) -> None: ...


@dataclass(frozen=True)
class Training:
    """What a training consists of beside its state. `evaluate` gives nats per token, None if it was asked to stop."""

    engine: Engine
    batches: BatchSource
    plan: TrainingPlan
    evaluate: Callable[[], float | None] | None  # None without held-out text
    keep_best: Callable[[State], None]
    checkpoints: Saves
    watch: Watch
    stop: Stop

    def train(self, state: State) -> State:
        """Train from `state` to the end of the plan, or until its patience is over.

        Raises Diverged when too many steps in a row had no finite loss or gradient, and Preempted, after saving, when
        any rank was asked to stop.
        """
        state = self._evaluated(state)  # one that stopped before its evaluation begins with it
        while state.step < self.plan.steps and not out_of_patience(self.plan, state):
            state, stop = self._after_step(state)
            refuse_divergence(self.plan, state)
            if stop:
                self._leave(state)
            state = self._evaluated(state)
            # After the evaluation, so that the checkpoint knows the best step and patience goes on counting from there.
            if self.plan.saves_at(state.step):
                self.checkpoints.save(state)
            fault_injection.inject("step", rank=self.engine.world.rank, step=state.step - 1)
        return state

    def _after_step(self, state: State) -> tuple[State, bool]:
        """The state after one more step, and whether any rank was asked to stop."""
        world, started = self.engine.world, time.perf_counter()
        heartbeat.beat(state.step)
        # Seeded anew for every step: after a resume dropout draws what it would have drawn without the interruption.
        torch.manual_seed(random_seed(self.plan.seed, state.step, world.rank))
        learning_rate = self.plan.schedule.rate(state.step)
        micro_batch = self.plan.geometry.micro_batch
        batch = self.batches.of_step(state.step, rank=world.rank, world_size=world.world_size, micro_batch=micro_batch)
        result = take_step(
            self.engine,
            batch,
            learning_rate,
            step=state.step,
            highest_loss=state.highest_loss(self.plan.spike),
            stop=self.stop.requested,
            written=self.checkpoints.written,
        )
        state = state.after_step(result)
        if result.written:
            self.checkpoints.commit()
        self.watch.step(state, result, learning_rate, time.perf_counter() - started)
        return state, result.stop

    def _evaluated(self, state: State) -> State:
        """The state with the evaluation that is due, if one is. It saves and leaves where a rank is asked to stop."""
        if self.evaluate is None or not self.plan.evaluates_at(state.step) or state.evaluated == state.step:
            return state
        fault_injection.inject("evaluation", rank=self.engine.world.rank, step=state.step)
        nats_per_token = self.evaluate()
        if nats_per_token is None:
            self._leave(state)
        state = state.after_evaluation(nats_per_token)
        self.watch.evaluation(state, nats_per_token)
        if state.best_step == state.step:
            self.keep_best(state)
        return state

    def _leave(self, state: State) -> NoReturn:
        self.checkpoints.save(state)
        self.checkpoints.commit()
        raise Preempted(f"Stopped and saved at step {state.step:,}.", remedy="Run the same command to go on.")


def take_step(
    engine: Engine,
    batch: Sequence[MicroBatch],
    learning_rate: float,
    *,
    step: int,
    highest_loss: float = math.inf,
    stop: Callable[[], bool] = bool,
    written: Callable[[], bool] = bool,
) -> StepResult:
    """One optimizer update on this rank's micro-batches of a batch. Collective.

    A batch with a higher loss than `highest_loss` changes nothing. `step` only tells the engine where faults are
    injected. What this rank has to say to the others (whether to `stop`,
    whether its checkpoint is `written`) is asked as late as possible, after the backwards: their time is most of a
    step's, so a signal that arrives in it still counts for this step.
    """
    engine.begin(batch, learning_rate, step=step, highest_loss=highest_loss)
    for inputs, targets in batch:
        engine.backward(inputs, targets)
    return engine.step(stop=stop(), written=written())


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
        f"Training diverged: loss or gradient was not finite{' or a spike' if plan.spike else ''} at "
        f"{counted(state.skipped_in_a_row, 'step')} in a row, up to step {state.step:,}.",
        remedy="Lower the learning rate, or raise warmup; the documents of those steps are in metrics.jsonl.",
    )
