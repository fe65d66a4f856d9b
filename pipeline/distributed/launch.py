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
from pipeline.errors import ConfigError
from pipeline.graph.work import RankPool

MIN_FREE_BYTES = 1_000_000  # for logs, heartbeats and notes; a checkpoint's room is asked for when it is written


def launch_job(job: Job, ranks: RankPool | None = None) -> dict[str, Any]:
    """Do the job and return rank 0's counts: on `ranks` if given, else on the hostfile's hosts, else on new ranks here.

    Raises ConfigError where somebody else started the ranks and the caller does not hold them, and whatever ended the
    training. What the attempt left about itself is gone afterwards, unless it failed.
    """
    if ranks is None and in_external_world():
        # Every one of those processes would start ranks of its own, and all would write to the same folder.
        raise ConfigError(
            "This command cannot use ranks that torchrun, deepspeed or srun started.",
            remedy="Start it once, without them; it starts its own ranks.",
        )
    remove_attempt_files(job)
    job.write()
    # Before any rank starts: one that cannot even write its note would be lost without a cause.
    if shutil.disk_usage(job.folder).free < MIN_FREE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), job.folder)
    if ranks is not None:
        counts = ranks.run_job(job.path)
    elif job.launch.hostfile:
        counts = run_on_hosts(job, Path(job.launch.hostfile))
    else:
        counts = run_local_ranks(job, job.launch.ranks or default_ranks())
    remove_attempt_files(job)
    return counts


def remove_attempt_files(job: Job) -> None:
    """Remove what an attempt said about itself: not part of the artifact, and misleading in the next attempt."""
    about_ranks = [path for pattern in ("*.beat", "*.error.json") for path in job.logs.glob(pattern)]
    for path in (job.outcome_file, job.stop_file, *about_ranks):
        path.unlink(missing_ok=True)


def default_ranks() -> int:
    """One per GPU, one on a machine without."""
    import torch  # takes seconds, and is not needed where the number of ranks is given

    return 1 if os.environ.get("DS_ACCELERATOR") == "cpu" else max(torch.cuda.device_count(), 1)


def num_ranks(launch: LaunchSection) -> int:
    """How many ranks would train: those that somebody else started, the hostfile's, or new ones here.

    Raises ConfigError if the hostfile or the environment makes no sense.
    """
    if in_external_world():
        return World.from_environment().world_size
    if launch.hostfile:
        return sum(host.slots for host in read_hostfile(Path(launch.hostfile)))
    return launch.ranks or default_ranks()
