"""What ranks do in these tests, named by `Job.with_entry_point`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.distributed.job import Job
from pipeline.distributed.world import World
from pipeline.runtime.progress import Progress
from pipeline.training.stage import train_on_rank


def every_variant(job: Job, world: World, progress: Progress) -> dict[str, Any]:
    """The job once for each of `slice["variants"]`, in a folder each: one start of the ranks for many trainings."""
    counts = {}
    for name, changes in job.config_slice["variants"].items():
        folder = Path(job.folder) / name
        folder.mkdir(exist_ok=True)
        section = job.config_slice[job.stage] | changes
        counts[name] = train_on_rank(
            replace(job, folder=str(folder), config_slice=job.config_slice | {job.stage: section}), world, progress
        )
    return json.loads(json.dumps(counts)) if world.leads else {}


def state_bytes(job: Job, world: World, progress: Progress) -> dict[str, Any]:
    """Bytes of model state on rank 0 after a step, by ZeRO stage: what the optimizer updates and keeps, and all of it."""
    inputs = TrainingInputs.of(job)
    by_stage = {}
    for zero in (0, 1, 2, 3):
        section = job.section.model_copy(update={"zero": zero})
        geometry = BatchGeometry.of(job.stage, section, context=inputs.shape.context, world_size=world.world_size)
        settings = EngineSettings.of(section, geometry, {})
        model = inputs.first_model(0)
        engine = Engine(model, optimizer_of(model, section), settings, world)
        batches = Batches(inputs.corpus(), batch_samples=geometry.batch_samples, seed=0)
        batch = batches.of_step(0, rank=world.rank, world_size=world.world_size, micro_batch=geometry.micro_batch)
        take_step(engine, batch, 1e-3, step=0)
        held = engine.held_bytes()
        by_stage[str(zero)] = {"optimizer": held.optimizer, "all": held.optimizer + held.weights}
        engine.close()
    return by_stage if world.leads else {}
