"""What ranks do in these tests, named by `Job.with_body`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.graph.progress import Progress
from pipeline.training.bodies import train_stage
from pipeline.training.job import Job
from pipeline.training.world import World


def every_variant(job: Job, world: World, progress: Progress) -> dict[str, Any]:
    """The job once for each of `slice["variants"]`, in a folder each: one start of the ranks for many trainings."""
    counts = {}
    for name, changes in job.slice["variants"].items():
        folder = Path(job.folder) / name
        folder.mkdir(exist_ok=True)
        section = job.slice[job.stage] | changes
        counts[name] = train_stage(
            replace(job, folder=str(folder), slice=job.slice | {job.stage: section}), world, progress
        )
    return json.loads(json.dumps(counts)) if world.leads else {}
