"""Runs a job on the ranks there are: those that somebody else started, the hostfile's, or new ones here."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

from pipeline.config.schema import LaunchSection
from pipeline.distributed.hostfile import read_hostfile
from pipeline.distributed.job import Job
from pipeline.distributed.launch_hosts import run_on_hosts
from pipeline.distributed.launch_local import run_local_ranks
from pipeline.distributed.world import World, in_external_world

LEAST_FREE_BYTES = 1_000_000  # for what ranks say about themselves; a checkpoint's room is asked for when it is written


def launch_job(job: Job) -> dict[str, Any]:
    """Do the job on the ranks there are: those that somebody else started, the hostfile's, or new ones here."""
    forget_attempt(job)
    job.write()
    if shutil.disk_usage(job.folder).free < LEAST_FREE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), job.folder)
    if in_external_world():
        from pipeline.distributed import external_launcher

        counts = external_launcher.present().lead(job)
    elif job.launch.hostfile:
        counts = run_on_hosts(job, Path(job.launch.hostfile))
    else:
        counts = run_local_ranks(job, job.launch.ranks or default_ranks())
    forget_attempt(job)
    return counts


def default_ranks() -> int:
    """One per GPU, one on a machine without."""
    import torch

    return 1 if os.environ.get("DS_ACCELERATOR") == "cpu" else max(torch.cuda.device_count(), 1)


def forget_attempt(job: Job) -> None:
    """Remove what an attempt said about itself: no part of the artifact, and not to be taken for the next one's."""
    notes = [path for pattern in ("*.beat", "*.error.json") for path in job.logs.glob(pattern)]
    for path in (job.outcome, job.stop_file, *notes):
        path.unlink(missing_ok=True)


def num_ranks(launch: LaunchSection) -> int:
    """How many ranks would train: those that somebody else started, the hostfile's, or new ones here.

    Raises ConfigError if the hostfile or the environment makes no sense.
    """
    if in_external_world():
        return World.from_environment().world_size
    if launch.hostfile:
        return sum(host.slots for host in read_hostfile(Path(launch.hostfile)))
    return launch.ranks or default_ranks()
