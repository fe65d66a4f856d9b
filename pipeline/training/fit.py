"""One training from its first step to its last weights, over as many interruptions as it takes.

This is where the parts meet: the engine that computes, the checkpoints that survive it, the loop, and the metrics that
people look at. Pretraining, its branches and every trial of an arm come through `train_to_end` with another spec.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gpt.model import GPT
from pipeline.config.training_sections import TrainingSection
from pipeline.distributed.signals import stop
from pipeline.distributed.world import World
from pipeline.runtime.precision import autocast_for
from pipeline.runtime.progress import Progress
from pipeline.saved_models.model_files import BEST, CHECKPOINTS, LAST
from pipeline.saved_models.weights import save_weights
from pipeline.tokens.batches import Batches
from pipeline.tokens.scoring_windows import ScoringWindows
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.deepspeed_config import EngineSettings
from pipeline.training.engine import Engine
from pipeline.training.loop import Training, Watch
from pipeline.training.metrics import Metrics, Unwatched
from pipeline.training.optimizers import optimizer_of
from pipeline.training.state import State
from pipeline.training.training_plan import TrainingPlan
from pipeline.training.validation import evaluate


@dataclass(frozen=True)
class TrainingSpec:
    """What is trained on what, and where it is written. The same on every rank."""

    label: str  # what the operator sees
    section: TrainingSection
    deepspeed: Mapping[str, Any]  # the config's block of that name
    plan: TrainingPlan
    batches: Batches
    # Evaluated on: the corpus' validation split, None if it has none; for an arm the target's selection split.
    held_out: ScoringWindows | None
    folder: Path  # receives checkpoints/ and the weights
    metrics_folder: Path  # receives metrics.jsonl and tensorboard/
    identity: Mapping[str, Any]  # what must not change between an interruption and its resume
    trial: str = ""  # its name, if it is one of several: marks its metrics
    keeps_best: bool = False  # the weights of its best evaluation, too


def train_to_end(spec: TrainingSpec, model: GPT, world: World, progress: Progress) -> State:
    """Train the model from its newest valid checkpoint on; leaves its last weights, and the best if asked to.

    Raises Diverged and Preempted as the loop does. Collective.
    """
    prepare_model(model, spec.section, world.device)
    settings = EngineSettings.of(spec.section, spec.plan.geometry, spec.deepspeed)
    engine = Engine(model, optimizer_of(model, spec.section), settings, world)
    checkpoints = Checkpoints(
        spec.folder / CHECKPOINTS,
        engine,
        keep=spec.section.keep_checkpoints,
        keep_every=spec.section.keep_every,
        identity=spec.identity,
        pinned=spec.plan.forks,
    )
    try:
        state = checkpoints.resume(progress.say if world.leads else _discard_message)
        with _watched(spec, state, world, progress) as watch:
            training = Training(
                engine,
                spec.batches,
                spec.plan,
                evaluate=partial(evaluate, engine, spec.held_out, stop.requested) if spec.held_out else None,
                keep_best=partial(_keep_best, spec, engine),
                checkpoints=checkpoints,
                watch=watch,
                stop=stop,
            )
            state = training.train(state)
        # A stage is not finished until its manifest is there. If it is killed before that, the next attempt resumes
        # at the end and repeats only what follows training.
        if checkpoints.newest != state.step:
            checkpoints.save(state)
        checkpoints.commit()
        _leave_weights(spec.folder / LAST, engine, state)
    finally:
        # The next trial's engine is built in this process: both at once need not fit in memory.
        engine.close()
    return state


def prepare_model(model: GPT, section: TrainingSection, device: str) -> None:
    """Make the choices that change how fast and in which precision a model computes on this kind of device.

    They leave weights, their names and the loss it is trained for alone, so a checkpoint fits with and without them.
    """
    model.checkpoint_activations = section.activation_checkpointing
    if section.dtype == "mixed":
        # Around its own forward: DeepSpeed (0.19.8) switches off an autocast that it finds around its engine's.
        model.forward = autocast_for(section.dtype, device)(model.forward)  # type: ignore[method-assign]
    # Last, so that the compiler sees the autocast. In place, because `torch.compile(model)` renames every weight.
    if section.compile:
        model.compile()


@contextmanager
def _watched(spec: TrainingSpec, state: State, world: World, progress: Progress) -> Iterator[Watch]:
    if not world.leads:
        yield Unwatched()
        return
    with progress.task(spec.label, total=spec.plan.steps, unit="steps") as task:
        task.start_at(state.step)
        metrics = Metrics(
            spec.metrics_folder, task, state, trial=spec.trial, documents_of=spec.batches.documents_of_step
        )
        try:
            yield metrics
        finally:
            metrics.close()


def _keep_best(spec: TrainingSpec, engine: Engine, state: State) -> None:
    # Pretraining is used at its end, where the learning rate has decayed: its best step on the way is of no use.
    if spec.keeps_best:
        _leave_weights(spec.folder / BEST, engine, state)


def _leave_weights(path: Path, engine: Engine, state: State) -> None:
    # Every rank gathers, because under ZeRO 3 each holds a share of every weight; one of them writes.
    weights = engine.weights()
    if engine.world.leads:
        save_weights(path, weights, step=str(state.step))


def _discard_message(text: str) -> None:
    """Discard progress messages on ranks other than 0."""
