"""Which learning rates a training stage can bear: one short training whose rate rises exponentially (Smith 2017)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.config.schema import ArmSection, PretrainSection, TrainingSection
from pipeline.distributed.job import Job
from pipeline.distributed.world import World
from pipeline.runtime.progress import Progress
from pipeline.tokens.batches import Batches
from pipeline.training.arm import first_model
from pipeline.training.engine import Engine
from pipeline.training.fit import prepare, settings_of
from pipeline.training.inputs import TrainingInputs
from pipeline.training.loop import random_seed
from pipeline.training.optimizers import optimizer_of
from pipeline.training.training_plan import BatchGeometry

ENTRY_POINT = f"{__name__}:range_test_on_rank"
SMOOTHING = 0.9  # of the running mean of losses, whose bias at the start is taken out
BLOWN_UP = 1.05  # times the lowest smoothed loss so far: no rate beyond is worth a try


@dataclass(frozen=True)
class Reading:
    """One step: its rate, the loss of its batch before the update, and the running mean up to it, in nats per token."""

    learning_rate: float
    nats_per_token: float
    smoothed: float


def rates(low: float, high: float, steps: int) -> list[float]:
    """`steps` rates from `low` to `high`, each the same factor above the one before."""
    return [low * (high / low) ** (step / (steps - 1)) for step in range(steps)]


def range_test_on_rank(job: Job, world: World, progress: Progress) -> dict[str, Any]:
    """Train with a rising rate on this rank; the readings as counts, complete on rank 0. Collective.

    `job.config_slice["range"]` holds {low, high, steps}. Ends early once the loss has blown up; leaves
    nothing else behind.
    """
    section, ground = job.section, TrainingInputs.of(job)
    geometry = BatchGeometry.of(job.stage, section, context=ground.shape.context, world_size=world.world_size)
    mixture = ground.corpus() if job.stage == "pretrain" else ground.target()
    seed = _seed(section)
    batches = Batches(mixture, batch_samples=geometry.batch_samples, seed=seed)
    model = first_model(ground, seed)
    prepare(model, section, world.device)
    engine = Engine(
        model, optimizer_of(model, section), settings_of(section, geometry, job.config_slice["deepspeed"]), world
    )
    try:
        readings = _readings(job, engine, batches, geometry, seed, progress)
    finally:
        engine.close()
    return {"readings": [vars(reading) for reading in readings]} if world.leads else {}


def _readings(
    job: Job, engine: Engine, batches: Batches, geometry: BatchGeometry, seed: int, progress: Progress
) -> list[Reading]:
    world, found = engine.world, list[Reading]()
    wanted = rates(**job.config_slice["range"])
    average, lowest = 0.0, math.inf
    with progress.task("learning rates", len(wanted), "steps") as task:
        for step, rate in enumerate(wanted):
            torch.manual_seed(random_seed(seed, step, world.rank))
            batch = batches.of_step(
                step, rank=world.rank, world_size=world.world_size, micro_batch=geometry.micro_batch
            )
            engine.begin(batch, rate, step=step)
            for inputs, targets in batch:
                engine.backward(inputs, targets)
            loss = engine.step().nats_per_token  # the same on every rank
            average = SMOOTHING * average + (1 - SMOOTHING) * loss
            smoothed = average / (1 - SMOOTHING ** (step + 1))
            if not math.isfinite(loss) or (step > len(wanted) // 10 and smoothed > BLOWN_UP * lowest):
                break
            lowest = min(lowest, smoothed)
            found.append(Reading(rate, loss, smoothed))
            task.advance(1, f"{rate:.2g}: loss {smoothed:.3f}")
    return found


def _seed(section: TrainingSection) -> int:
    if isinstance(section, ArmSection):
        return section.seeds[0]
    assert isinstance(section, PretrainSection), "what is not an arm pretrains"
    return section.seed
