"""One rank: `python -m pipeline.distributed.worker JOB.json`, started by Folio or by DeepSpeed's launcher."""

from __future__ import annotations

import faulthandler
import json
import os
import pkgutil
import resource
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import torch

from pipeline.config.schema import LaunchSection
from pipeline.distributed import rendezvous
from pipeline.distributed.failures import Failure, reserve_note
from pipeline.distributed.heartbeat import heartbeat
from pipeline.distributed.job import Job
from pipeline.distributed.signals import PARENT, stop
from pipeline.distributed.world import World
from pipeline.errors import EnvironmentFault
from pipeline.runtime.files import environment_faults, write_text
from pipeline.runtime.memory import keep_freed_memory
from pipeline.runtime.processes import die_with_parent
from pipeline.runtime.progress import Progress


def main() -> NoReturn:
    """Run the rank to its end; the process ends here, with the exit code of what happened.

    And at once: gloo's threads may hold the last tensors still, and abort if Python is taken down under them.
    """
    die_with_parent(int(os.environ.get(PARENT) or os.getppid()))
    job = Job.read(Path(sys.argv[1]))
    rank = int(os.environ.get("RANK", "0"))
    into_log(job.logs, rank)
    reserve_note(job.logs, rank)
    sys.excepthook = lambda kind, error, trace: give_up(error, job.logs, rank)
    with stop.listening(job.stop_file):
        world = World.from_environment()
        prepare(job.launch, world)
        rendezvous.join(world, startup_seconds=job.launch.startup_seconds)
        run_job_on_rank(job, world)
        rendezvous.leave()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def prepare(launch: LaunchSection, world: World) -> None:
    """Give this rank its share of the machine."""
    # torch 2.13 deprecates names that deepspeed 0.19.8 calls; nothing that an operator could do about it.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
    keep_freed_memory()
    share = len(os.sched_getaffinity(0)) // world.local_world_size
    threads = launch.threads or int(os.environ.get("OMP_NUM_THREADS") or max(share, 1))
    torch.set_num_threads(threads)


def run_job_on_rank(job: Job, world: World) -> None:
    """The stage's body on this rank, between joining and leaving. Rank 0 leaves its counts in `outcome.json`."""
    heartbeat.start(job.logs, world.rank, lambda: rendezvous.set_timeout(job.launch.timeout_seconds))
    progress = Progress(job.stage, Path(job.state_file) if job.state_file and world.leads else None)
    with environment_faults(Path(job.folder)), _memory_faults(job.stage):
        counts = pkgutil.resolve_name(job.entry_point)(job, world, progress)
    heartbeat.stop()
    rendezvous.set_timeout(job.launch.startup_seconds)
    peak = rendezvous.largest(_peak_memory_bytes(), world)
    if world.leads:
        outcome = {**counts, "world_size": world.world_size, "peak_memory_bytes": peak}
        write_text(job.outcome, json.dumps(outcome, indent=1) + "\n")


def give_up(error: BaseException, logs: Path, rank: int) -> NoReturn:
    """Leave a note about the failure and end now: with a peer gone, an orderly end would wait for it."""
    failure = Failure.of(error, rank)
    failure.write(logs)
    with suppress(OSError):  # the disk may be what failed
        print(failure.traceback, flush=True)
    os._exit(failure.exit_code)


def into_log(logs: Path, rank: int) -> None:
    """Send output to this rank's log, and where each thread was if it crashes; rank 0's stderr stays the operator's."""
    logs.mkdir(parents=True, exist_ok=True)
    log = os.open(logs / f"rank-{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, sys.stdout.fileno())
    if rank != 0:
        os.dup2(log, sys.stderr.fileno())
    os.close(log)
    faulthandler.enable(sys.stdout)


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


def _peak_memory_bytes() -> int:
    """Of the device that holds the model; the kernel counts in KiB."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
