"""The stages pretrain, scratch and finetune: what the runner calls once, and what every rank then does."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipeline.distributed.job import Job
from pipeline.distributed.launch import launch_job, num_ranks
from pipeline.graph.fitted_batch import TrainingText, fitted_section
from pipeline.graph.stage_counts import ArmCounts, PretrainCounts, ShardsCounts
from pipeline.graph.work import Work
from pipeline.tokens.shard import refuse_impossible_rows, target_shard

if TYPE_CHECKING:
    from pipeline.distributed.world import World
    from pipeline.runtime.progress import Progress


def train_stage(work: Work) -> PretrainCounts | ArmCounts:
    """Train on every rank; the counts say how many ranks there were and what they cost.

    Raises DataError if an input is damaged, which is found before any rank starts, and whatever ended the training.
    """
    started = time.monotonic()
    # Nothing that trains opens the text that is scored, not even to hash it: the report does that.
    shards = work.inputs["shards"].folder
    scored = target_shard(shards, "validation")
    for artifact in work.inputs.values():
        artifact.checked(unread=str(scored.relative_to(shards)))
    # Once, and not by every rank: it reads all tokens, right after hashing has brought them into memory.
    for path in sorted(set(shards.rglob("*.arrow")) - {scored}):
        refuse_impossible_rows(path)
    # Plain JSON, because rank 0 is another process, perhaps on another host, and leaves its counts in a file.
    outcome = launch_job(fitted_job(work), work.ranks)
    seconds = time.monotonic() - started
    record = PretrainCounts if work.stage == "pretrain" else ArmCounts
    return record.model_validate({**outcome, "rank_seconds": round(seconds * outcome["world_size"], 3)})


def fitted_job(work: Work) -> Job:
    """The job of a training stage, its batch no larger than its text can fill; says what differs from the config.

    What the ranks read in the job is what they do, and what `folio data show` and a resume compare with. Raises
    ConfigError if the text is too short for what the config asks for.
    """
    shards = work.inputs["shards"].counts_as(ShardsCounts)
    text = TrainingText.of(work.stage, shards, work.slice.get("weights", {}))
    section, notes = fitted_section(
        work.stage, work.slice[work.stage], text, context=work.slice["model"].context, ranks=num_ranks(work.launch)
    )
    for note in notes:
        work.progress.say(note)
    return Job.of(replace(work, slice={**work.slice, work.stage: section}))


def train_on_rank(job: Job, world: World, progress: Progress) -> dict[str, Any]:
    """Train the job's stage on this rank; its counts as JSON on rank 0, empty on the others. Collective.

    The launcher adds how many ranks there were and how much memory they used.
    """
    # Imported by the ranks alone: the process that launches them needs neither torch nor the engine.
    from pipeline.training.arm import train_arm
    from pipeline.training.pretrain import pretrain_on_corpus

    counts = pretrain_on_corpus(job, world, progress) if job.stage == "pretrain" else train_arm(job, world, progress)
    return counts.model_dump(mode="json") if counts is not None else {}
