"""Training in miniature, for what happens around it: beats, agrees on stopping, and suffers the faults of its job.

As a program, `python rig.py JOB` is like `folio run`: one line on stderr and the exit code of the error. In a world
that somebody else started it trains twice.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from pipeline.distributed.heartbeat import heartbeat
from pipeline.distributed.job import Job
from pipeline.distributed.launch import launch_job
from pipeline.distributed.signals import stop
from pipeline.distributed.world import World, in_external_world
from pipeline.errors import DataError, FolioError, Preempted
from pipeline.runtime.progress import Progress

PACE_SECONDS = 0.02


def train_stage(job: Job, world: World, progress: Progress) -> dict[str, Any]:
    """`slice` holds the number of steps and "faults", each "rank:step" -> what befalls that rank there."""
    import torch  # not in the launcher, which this file also is
    import torch.distributed as dist

    for step in range(job.config_slice["steps"]):
        heartbeat.beat(step)
        asked = torch.tensor(float(stop.requested()), device=world.device)
        dist.all_reduce(asked)
        if asked.item():
            raise Preempted(f"Saved at step {step}.")
        suffer(job, job.config_slice["faults"].get(f"{world.rank}:{step}"))
        time.sleep(PACE_SECONDS)
    return {"steps": job.config_slice["steps"], "device": world.device}


def suffer(job: Job, fault: str | None) -> None:
    if fault == "refuse":
        raise DataError("Shard x is damaged.", remedy="Run stage shards again.")
    if fault == "bug":
        raise ZeroDivisionError("a bug")
    if fault == "fill the disk":
        with (Path(job.folder) / "filling").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 20))
    if fault == "leave":
        os._exit(17)
    if fault == "abort on exit":
        atexit.register(os.abort)
        return
    if fault is not None:
        os.kill(os.getpid(), signal.Signals[fault])


def main() -> None:
    job = Job.read(Path(sys.argv[1]))
    try:
        if in_external_world():
            from pipeline.distributed.external_launcher import external_ranks

            with external_ranks(job.launch) as ranks:
                print([launch_job(job, ranks), launch_job(job, ranks)])
        else:
            print(launch_job(job))
    except FolioError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
