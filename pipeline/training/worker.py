"""One rank: `python -m pipeline.training.worker JOB.json`, started by Folio or by DeepSpeed's launcher."""

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

from pipeline.errors import EnvironmentFault
from pipeline.graph.config import Launch
from pipeline.graph.hardware import keep_memory
from pipeline.graph.manifest import write_atomically
from pipeline.graph.progress import Progress
from pipeline.graph.runner import environment_faults
from pipeline.training import rendezvous
from pipeline.training.failures import Failure, reserve_note
from pipeline.training.job import Job
from pipeline.training.pulse import pulse
from pipeline.training.signals import PARENT, die_with_parent, stop
from pipeline.training.world import World


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
        prepare(job.settings, world)
        rendezvous.join(world, startup_seconds=job.settings.startup_seconds)
        train(job, world)
        rendezvous.leave()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def prepare(launch: Launch, world: World) -> None:
    """Give this rank its share of the machine."""
    # torch 2.13 deprecates names that deepspeed 0.19.8 calls; nothing that an operator could do about it.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
    keep_memory()
    share = len(os.sched_getaffinity(0)) // world.local_world_size
    threads = launch.threads or int(os.environ.get("OMP_NUM_THREADS") or max(share, 1))
    torch.set_num_threads(threads)


def train(job: Job, world: World) -> None:
    """The stage's body on this rank, between joining and leaving. Rank 0 leaves its counts in `outcome.json`."""
    pulse.start(job.logs, world.rank, lambda: rendezvous.set_timeout(job.settings.timeout_seconds))
    progress = Progress(job.stage, Path(job.state_file) if job.state_file and world.leads else None)
    with environment_faults(Path(job.folder)), _memory_faults(job.stage):
        counts = pkgutil.resolve_name(job.body)(job, world, progress)
    pulse.stop()
    rendezvous.set_timeout(job.settings.startup_seconds)
    peak = rendezvous.largest(_peak_memory_bytes(), world)
    if world.leads:
        outcome = {**counts, "world_size": world.world_size, "peak_memory_bytes": peak}
        write_atomically(job.outcome, json.dumps(outcome, indent=1) + "\n")


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
