"""The learning rate range test on every rank: one short training whose rate rises exponentially.

Smith 2017, "Cyclical learning rates for training neural networks", section 3.3; exponential and smoothed as in fastai.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.config.training_sections import ArmSection, PretrainSection, TrainingSection
from pipeline.distributed.job import Job
from pipeline.distributed.world import World
from pipeline.runtime.progress import Progress
from pipeline.tokens.batches import Batches
from pipeline.training.deepspeed_config import EngineSettings
from pipeline.training.engine import Engine
from pipeline.training.fit import prepare_model
from pipeline.training.inputs import TrainingInputs
from pipeline.training.loop import random_seed, take_step
from pipeline.training.optimizers import optimizer_of
from pipeline.training.training_plan import BatchGeometry

ENTRY_POINT = f"{__name__}:range_test_on_rank"
SMOOTHING = 0.9  # of the running mean of losses, whose bias at the start is taken out
BLOWN_UP = 1.05  # times the lowest smoothed loss so far: higher rates are not worth a try
SETTLING = 0.1  # share of the steps before which the loss is too noisy to count as blown up


@dataclass(frozen=True)
class Reading:
    """One step: its rate, the loss of its batch before the update, and the running mean up to it, in nats per token."""

    learning_rate: float
    nats_per_token: float
    smoothed: float


class SmoothedLosses:
    """The running mean of losses, and whether it has blown up."""

    def __init__(self, steps: int) -> None:
        self.smoothed = math.nan
        self._steps = steps
        self._seen, self._average, self._lowest = 0, 0.0, math.inf

    def add(self, loss: float) -> bool:
        """Take in the loss of the next step. False if it has blown up: the test ends before this step."""
        self._seen += 1
        self._average = SMOOTHING * self._average + (1 - SMOOTHING) * loss
        # The average starts at 0, so it is too low by this factor (as Adam's moments are).
        self.smoothed = self._average / (1 - SMOOTHING**self._seen)
        settled = self._seen - 1 > int(self._steps * SETTLING)
        if not math.isfinite(loss) or (settled and self.smoothed > BLOWN_UP * self._lowest):
            return False
        self._lowest = min(self._lowest, self.smoothed)
        return True


def rates(low: float, high: float, steps: int) -> list[float]:
    """`steps` rates from `low` to `high`, each the same factor above the one before."""
    return [low * (high / low) ** (step / (steps - 1)) for step in range(steps)]


def range_test_on_rank(job: Job, world: World, progress: Progress) -> dict[str, Any]:
    """Train with a rising rate on this rank; the readings as JSON, complete on rank 0. Collective.

    `job.config_slice["range"]` holds {low, high, steps}. Ends early once the loss has blown up; leaves nothing else
    behind.
    """
    section, inputs = job.section, TrainingInputs.of(job)
    geometry = BatchGeometry.of(job.stage, section, context=inputs.shape.context, world_size=world.world_size)
    mixture = inputs.corpus() if job.stage == "pretrain" else inputs.target("train")
    seed = first_seed(section)
    batches = Batches(mixture, batch_samples=geometry.batch_samples, seed=seed)
    # The model, data and engine of the stage itself, so that the readings hold for its first steps.
    model = inputs.first_model(seed)
    prepare_model(model, section, world.device)
    settings = EngineSettings.of(section, geometry, job.config_slice["deepspeed"])
    engine = Engine(model, optimizer_of(model, section), settings, world)
    try:
        readings = take_readings(engine, batches, rates(**job.config_slice["range"]), seed=seed, progress=progress)
    finally:
        engine.close()
    return {"readings": [vars(reading) for reading in readings]} if world.leads else {}


def take_readings(
    engine: Engine, batches: Batches, rising: list[float], *, seed: int, progress: Progress
) -> list[Reading]:
    """One training step at each of the rising rates, until the loss blows up. Collective.

    All ranks see the same losses, so they end at the same step.
    """
    world, readings, losses = engine.world, list[Reading](), SmoothedLosses(len(rising))
    place = {"rank": world.rank, "world_size": world.world_size, "micro_batch": engine.settings.micro_batch}
    with progress.task("learning rates", len(rising), "steps") as task:
        for step, rate in enumerate(rising):
            torch.manual_seed(random_seed(seed, step, world.rank))
            loss = take_step(engine, batches.of_step(step, **place), rate, step=step).nats_per_token
            if not losses.add(loss):
                break
            readings.append(Reading(rate, loss, losses.smoothed))
            task.advance(1, f"{rate:.2g}: loss {losses.smoothed:.3f}")
    return readings


def first_seed(section: TrainingSection) -> int:
    """The seed that pretraining has, or that an arm's grid is trained with."""
    if isinstance(section, ArmSection):
        return section.seeds[0]
    assert isinstance(section, PretrainSection), "what is not an arm pretrains"
    return section.seed
