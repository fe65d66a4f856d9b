"""What ranks do in these tests, named by `Job.with_entry_point`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.distributed.job import Job
from pipeline.distributed.world import World
from pipeline.runtime.progress import Progress
from pipeline.tokens.batches import Batches
from pipeline.training.deepspeed_config import EngineSettings
from pipeline.training.engine import Engine
from pipeline.training.file_writing import bytes_of
from pipeline.training.inputs import TrainingInputs
from pipeline.training.loop import take_step
from pipeline.training.optimizers import optimizer_of
from pipeline.training.saved_state import contents_of
from pipeline.training.stage import train_on_rank
from pipeline.training.training_plan import BatchGeometry


def of_every_variant(job: Job, variants: dict[str, dict[str, Any]]) -> Job:
    """The job that has the ranks do `every_variant`: each changes the job's section."""
    job = job.with_entry_point(f"tests.distributed.bodies:{every_variant.__name__}")
    job = replace(job, config_slice=job.config_slice | {"variants": variants})
    job.write()
    return job


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
    """Bytes of model state on rank 0 after a step, by ZeRO stage: what the optimizer works on, and with the weights."""
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
        contents = contents_of(engine._partitions, engine._optimizer)
        optimizer = bytes_of([part["states"] for part in contents])
        # Under stage 3 a share of each weight lies in `ds_tensor`, and small weights are there as a whole beside it.
        weights = bytes_of(
            [[parameter.data, getattr(parameter, "ds_tensor", None)] for parameter in model.parameters()]
        )
        # At stage 0 in fp32 the optimizer works on the weights themselves.
        by_stage[str(zero)] = {"optimizer": optimizer, "all": optimizer + (weights if zero else 0)}
        engine.close()
    return by_stage if world.leads else {}
