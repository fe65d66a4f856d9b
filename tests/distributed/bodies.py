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
