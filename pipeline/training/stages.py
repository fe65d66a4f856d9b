"""The training stages pretrain, scratch and finetune, as the runner calls them: have all ranks train, return counts."""

from __future__ import annotations

import errno
import os
import shutil
import time
from pathlib import Path
from typing import Any

from pipeline.graph.work import Work
from pipeline.training.cluster import run_hosts
from pipeline.training.job import Job
from pipeline.training.launch import run_ranks
from pipeline.training.world import in_external_world

LEAST_FREE_BYTES = 1_000_000  # for what ranks say about themselves; a checkpoint's room is asked for when it is written


def run(work: Work) -> dict[str, Any]:
    """Train on every rank; the counts say how many ranks there were and what they cost.

    Raises DataError if an input is damaged, which is found before any rank starts, and whatever ended the training.
    """
    started = time.monotonic()
    for artifact in work.inputs.values():
        artifact.checked()
    counts = train(Job.of(work))
    seconds = time.monotonic() - started
    return {**counts, "rank_seconds": round(seconds * counts["world_size"], 3)}


def train(job: Job) -> dict[str, Any]:
    """Do the job on the ranks there are: those that somebody else started, the hostfile's, or new ones here."""
    forget(job)
    job.write()
    if shutil.disk_usage(job.folder).free < LEAST_FREE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), job.folder)
    if in_external_world():
        from pipeline.training import crew

        counts = crew.present().lead(job)
    elif job.settings.hostfile:
        counts = run_hosts(job, Path(job.settings.hostfile))
    else:
        counts = run_ranks(job, job.settings.ranks or default_ranks())
    forget(job)
    return counts


def default_ranks() -> int:
    """One per GPU, one on a machine without."""
    import torch

    return 1 if os.environ.get("DS_ACCELERATOR") == "cpu" else max(torch.cuda.device_count(), 1)


def forget(job: Job) -> None:
    """Remove what an attempt said about itself: no part of the artifact, and not to be taken for the next one's."""
    notes = [path for pattern in ("*.beat", "*.error.json") for path in job.logs.glob(pattern)]
    for path in (job.outcome, job.stop_file, *notes):
        path.unlink(missing_ok=True)
