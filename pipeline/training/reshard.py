"""Divides a checkpoint among another number of ranks, for whoever wants it before training asks for it.

Training itself needs no conversion: it takes any checkpoint (`saved_state.py`). Here so many ranks start, take it in
that way, and write it as theirs.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gpt.model import GPT
from pipeline.distributed.job import JOB, Job
from pipeline.distributed.launch_local import run_local_ranks
from pipeline.distributed.world import World
from pipeline.errors import ConfigError, DataError
from pipeline.graph.lock import exclusive
from pipeline.graph.manifest import damaged_files
from pipeline.runtime.progress import Progress
from pipeline.training.checkpoint_files import CheckpointReceipt, read_receipt
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.deepspeed_config import EngineSettings
from pipeline.training.engine import Engine
from pipeline.training.inputs import TrainingInputs
from pipeline.training.optimizers import optimizer_of
from pipeline.training.state import State
from pipeline.training.training_plan import BatchGeometry

CHECKPOINT = "checkpoint"  # key of the folder in the slice of the job that does it


def convert(folder: Path, ranks: int) -> None:
    """Have `ranks` ranks on this machine write a checkpoint anew, in its place. No number in it changes.

    The original stays until the new one is complete. Raises DataError if it is damaged or lies in no training's
    folder, ConfigError if so many ranks could not go on from it, EnvironmentFault while the training runs.
    """
    folder = folder.resolve()
    if ranks < 1:
        raise ConfigError(f"{ranks} ranks cannot train.", remedy="Give at least 1.")
    artifact = next((parent for parent in folder.parents if (parent / JOB).is_file()), None)
    if artifact is None:
        raise DataError(
            f"{folder} lies in no training's folder: no {JOB} above it.",
            remedy="Put it back into the checkpoints folder of its training.",
        )
    with exclusive(artifact):
        _intact(folder)
        with TemporaryDirectory() as scratch:
            job = Job.read(artifact / JOB).with_entry_point(f"{__name__}:{convert_on_rank.__name__}")
            job = replace(
                job, folder=scratch, state_file=None, config_slice=job.config_slice | {CHECKPOINT: str(folder)}
            )
            job.write()
            run_local_ranks(job, ranks)


def convert_on_rank(job: Job, world: World, progress: Progress) -> dict[str, Any]:
    """Take in the job's checkpoint and write it again on this rank. Collective."""
    folder, inputs, section = Path(job.config_slice[CHECKPOINT]), TrainingInputs.of(job), job.section
    geometry = BatchGeometry.of(job.stage, section, context=inputs.shape.context, world_size=world.world_size)
    settings = EngineSettings.of(section, geometry, job.config_slice["deepspeed"])
    model = GPT(inputs.shape)
    engine = Engine(model, optimizer_of(model, section), settings, world)
    receipt = read_receipt(folder)
    engine.load([folder / entry.path for entry in receipt.files])
    # Nothing else is deleted: how many are kept is up to the training.
    kept = len(list(folder.parent.iterdir()))
    checkpoints = Checkpoints(folder.parent, engine, keep=kept, identity=receipt.identity)
    checkpoints.save(State.from_json(receipt.state))
    checkpoints.commit()
    return {}


def _intact(folder: Path) -> CheckpointReceipt:
    receipt = read_receipt(folder)
    if damaged := damaged_files(folder, receipt.files):
        raise DataError(f"{folder}: {'; '.join(damaged)}.", remedy="Convert another checkpoint.")
    return receipt
