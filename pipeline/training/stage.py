"""The stages pretrain, scratch and finetune: what the runner calls once, and what every rank then does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pipeline.distributed.job import Job
from pipeline.distributed.launch import launch_job
from pipeline.graph.stage_counts import ArmCounts, PretrainCounts
from pipeline.graph.work import Work

if TYPE_CHECKING:
    from pipeline.distributed.world import World
    from pipeline.runtime.progress import Progress


def train_stage(work: Work) -> PretrainCounts | ArmCounts:
    """Train on every rank; the counts say how many ranks there were and what they cost.

    Raises DataError if an input is damaged, which is found before any rank starts, and whatever ended the training.
    """
    started = time.monotonic()
    for artifact in work.inputs.values():
        artifact.checked()
    # Plain JSON, because rank 0 is another process, perhaps on another host, and leaves its counts in a file.
    outcome = launch_job(Job.of(work), work.ranks)
    seconds = time.monotonic() - started
    record = PretrainCounts if work.stage == "pretrain" else ArmCounts
    return record.model_validate({**outcome, "rank_seconds": round(seconds * outcome["world_size"], 3)})


def train_on_rank(job: Job, world: World, progress: Progress) -> dict[str, Any]:
    """Train the job's stage on this rank; its counts as JSON on rank 0, empty on the others. Collective.

    The launcher adds how many ranks there were and how much memory they used.
    """
    # Imported by the ranks alone: the process that launches them needs neither torch nor the engine.
    from pipeline.training.arm import train_arm
    from pipeline.training.pretrain import pretrain_on_corpus

    counts = pretrain_on_corpus(job, world, progress) if job.stage == "pretrain" else train_arm(job, world, progress)
    return counts.model_dump(mode="json") if counts is not None else {}
