"""One training from its first step to its last weights, over as many interruptions as it takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gpt.model import GPT
from pipeline.config.schema import TrainingSection
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
from pipeline.training.loop import Watch, train
from pipeline.training.metrics import Metrics, Unwatched
from pipeline.training.optimizers import optimizer_of
from pipeline.training.state import State
from pipeline.training.training_plan import BatchGeometry, TrainingPlan
from pipeline.training.validation import evaluate


@dataclass(frozen=True)
class TrainingSpec:
    """What is trained on what, and where it is written. The same on every rank."""

    label: str  # what the operator sees
    section: TrainingSection
    deepspeed: Mapping[str, Any]
    recipe: TrainingPlan
    batches: Batches
    windows: ScoringWindows  # evaluated on; choose the best step
    folder: Path  # receives checkpoints/ and the weights
    metrics: Path  # receives metrics.jsonl and tensorboard/
    identity: Mapping[str, Any]  # what must not change between an interruption and its resume
    trial: str = ""  # its name, if it is one of several: marks its metrics, and its best weights are kept, too

    @property
    def settings(self) -> EngineSettings:
        return settings_of(self.section, self.recipe.geometry, self.deepspeed)


def settings_of(section: TrainingSection, geometry: BatchGeometry, deepspeed: Mapping[str, Any]) -> EngineSettings:
    """What the engine of such a training is built from."""
    return EngineSettings(
        micro_batch=geometry.micro_batch,
        accumulation=geometry.accumulation,
        zero=section.zero,
        dtype=section.dtype,
        clip=section.clip,
        deepspeed=deepspeed,
    )


def train_to_end(run: TrainingSpec, model: GPT, world: World, progress: Progress) -> State:
    """Train the model, going on from its newest valid checkpoint; leaves its last weights, a trial its best ones, too.

    Raises Diverged and Preempted as the loop does. Collective.
    """
    prepare(model, run.section, world.device)
    engine = Engine(model, optimizer_of(model, run.section), run.settings, world)
    checkpoints = Checkpoints(
        run.folder / CHECKPOINTS,
        engine,
        keep=run.section.keep_checkpoints,
        identity=run.identity,
        pinned=run.recipe.forks,
    )
    try:
        state = checkpoints.resume(progress.say if world.leads else _silent)
        with _watched(run, state, world, progress) as watch:
            state = train(
                engine,
                run.batches,
                run.recipe,
                state,
                evaluate=partial(evaluate, engine, run.windows),
                keep_best=partial(_keep_best, run, engine),
                save=checkpoints.save,
                watch=watch,
                stop=stop,
            )
        if checkpoints.newest != state.step:
            checkpoints.save(state)
        _leave_weights(run.folder / LAST, engine, state)
    finally:
        engine.close()
    return state


def prepare(model: GPT, section: TrainingSection, device: str) -> None:
    """Make the choices that change how the model computes on this kind of device, not what."""
    model.checkpoint_activations = section.activation_checkpointing
    if section.dtype == "mixed":
        # Around its own forward: DeepSpeed (0.19.8) switches off an autocast that it finds around its engine's.
        model.forward = autocast_for(section.dtype, device)(model.forward)  # type: ignore[method-assign]
    if section.compile:
        model.compile()


@contextmanager
def _watched(run: TrainingSpec, state: State, world: World, progress: Progress) -> Iterator[Watch]:
    if not world.leads:
        yield Unwatched()
        return
    with progress.task(run.label, total=run.recipe.steps, unit="steps") as task:
        task.start_at(state.step)
        metrics = Metrics(run.metrics, task, state, trial=run.trial, samples_of=run.batches.samples_of_step)
        try:
            yield metrics
        finally:
            metrics.close()


def _keep_best(run: TrainingSpec, engine: Engine, state: State) -> None:
    if run.trial:
        _leave_weights(run.folder / BEST, engine, state)


def _leave_weights(path: Path, engine: Engine, state: State) -> None:
    weights = engine.weights()
    if engine.world.leads:
        save_weights(path, weights, step=str(state.step))


def _silent(text: str) -> None:
    """What the other ranks have to say about it."""
