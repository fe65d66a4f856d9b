"""What a rank does once its process stands (`start_rank.py`): it meets the others, then calls the job's entry point."""

from __future__ import annotations

import json
import os
import pkgutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import torch

from pipeline.config.schema import LaunchSection
from pipeline.distributed import rendezvous
from pipeline.distributed.collectives import all_gather
from pipeline.distributed.heartbeat import heartbeat
from pipeline.distributed.job import Job
from pipeline.distributed.signals import stop
from pipeline.distributed.world import World
from pipeline.errors import EnvironmentFault
from pipeline.runtime.files import environment_faults, write_text
from pipeline.runtime.memory import keep_freed_memory, peak_memory_bytes
from pipeline.runtime.processes import cores_of_a_rank
from pipeline.runtime.progress import Progress


def run_rank(job_file: Path) -> NoReturn:
    """Meet the other ranks and do the job; the process ends here, with 0. What goes wrong is raised."""
    job = Job.read(job_file)
    with stop.listening(job.stop_file):
        world = World.from_environment()
        set_up_process(job.launch, world)
        rendezvous.join(world, startup_seconds=job.launch.startup_seconds)
        run_job_on_rank(job, world)
        rendezvous.leave()
    sys.stdout.flush()
    sys.stderr.flush()
    # At once: gloo's threads may hold the last tensors still, and abort if Python is taken down under them.
    os._exit(0)


def set_up_process(launch: LaunchSection, world: World) -> None:
    """Give this rank its share of the machine's cores, and keep its memory and warnings in order."""
    # torch 2.13 deprecates names that deepspeed 0.19.8 calls; nothing that an operator could do about it.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
    keep_freed_memory()
    cores = cores_of_a_rank(world.local_world_size)
    torch.set_num_threads(launch.threads or int(os.environ.get("OMP_NUM_THREADS") or cores))


def run_job_on_rank(job: Job, world: World) -> None:
    """Call the job's entry point on this rank, between joining and leaving. Rank 0 leaves its counts in `outcome.json`.

    Raises what the entry point raises, with a full disk or memory as an EnvironmentFault. Collective.
    """
    # The first step may take minutes, to read data and claim memory; only after it is a silent rank a lost one.
    heartbeat.start(job.logs, world.rank, lambda: rendezvous.set_timeout(job.launch.timeout_seconds))
    progress = Progress(job.stage, Path(job.state_file) if job.state_file and world.leads else None)
    with environment_faults(Path(job.folder)), _memory_faults(job.stage):
        counts = pkgutil.resolve_name(job.entry_point)(job, world, progress)
    heartbeat.stop()
    # With ranks that somebody else started another job may follow, whose first step takes as long again.
    rendezvous.set_timeout(job.launch.startup_seconds)
    peak = max(all_gather(_peak_device_bytes()))
    if world.leads:
        outcome = {**counts, "world_size": world.world_size, "peak_memory_bytes": peak}
        write_text(job.outcome_file, json.dumps(outcome, indent=1) + "\n")


@contextmanager
def _memory_faults(stage: str) -> Iterator[None]:
    """Say what to change when the model does not fit its device."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise EnvironmentFault(
            f"{stage} does not fit in memory: {str(error).splitlines()[0]}",
            remedy=f"Lower {stage}.micro_batch, raise {stage}.zero, or use more ranks.",
        ) from error


def _peak_device_bytes() -> int:
    """Peak memory of the device that holds the model."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak_memory_bytes()
