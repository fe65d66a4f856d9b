"""One rank: `python -m pipeline.distributed.worker JOB.json`, started by Folio or by DeepSpeed's launcher."""

from __future__ import annotations

import faulthandler
import json
import os
import pkgutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import torch

from pipeline.config.schema import LaunchSection
from pipeline.distributed import rendezvous
from pipeline.distributed.collectives import all_gather
from pipeline.distributed.failures import Failure, reserve_note
from pipeline.distributed.heartbeat import heartbeat
from pipeline.distributed.job import Job
from pipeline.distributed.signals import PARENT, stop
from pipeline.distributed.world import World
from pipeline.errors import EnvironmentFault
from pipeline.runtime.files import environment_faults, write_text
from pipeline.runtime.memory import keep_freed_memory, peak_memory_bytes
from pipeline.runtime.processes import die_with_parent
from pipeline.runtime.progress import Progress


def main() -> NoReturn:
    """Run the rank to its end; the process ends here, with the exit code of what happened."""
    # DeepSpeed's launcher sets no PARENT: its child on this host is our parent then.
    die_with_parent(int(os.environ.get(PARENT) or os.getppid()))
    job = Job.read(Path(sys.argv[1]))
    rank = int(os.environ.get("RANK", "0"))
    redirect_output(job.logs, rank)
    reserve_note(job.logs, rank)
    # The process ends in this hook, before Python's own exit, which would join threads that wait for a lost peer.
    sys.excepthook = lambda kind, error, trace: exit_with_note(error, job.logs, rank)
    with stop.listening(job.stop_file):
        world = World.from_environment()
        set_up_process(job.launch, world)
        rendezvous.join(world, startup_seconds=job.launch.startup_seconds)
        run_job_on_rank(job, world)
        rendezvous.leave()
    sys.stdout.flush()
    sys.stderr.flush()
    # At once: gloo's threads may hold the last tensors still, and abort if Python is taken down under them.
    os._exit(0)


def set_up_process(launch: LaunchSection, world: World) -> None:
    """Give this rank its share of the machine's cores, and keep its memory and warnings in order."""
    # torch 2.13 deprecates names that deepspeed 0.19.8 calls; nothing that an operator could do about it.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
    keep_freed_memory()
    # The cores this process may use, not those of the machine: Slurm and containers give out fewer.
    cores_per_rank = len(os.sched_getaffinity(0)) // world.local_world_size
    threads = launch.threads or int(os.environ.get("OMP_NUM_THREADS") or max(cores_per_rank, 1))
    torch.set_num_threads(threads)


def run_job_on_rank(job: Job, world: World) -> None:
    """Call the job's entry point on this rank, between joining and leaving. Rank 0 leaves its counts in `outcome.json`.

    Raises what the entry point raises, with a full disk or memory as an EnvironmentFault. Collective.
    """
    # The first step may take minutes, to read data and claim memory; only after it is a silent rank a lost one.
    heartbeat.start(job.logs, world.rank, lambda: rendezvous.set_timeout(job.launch.timeout_seconds))
    progress = Progress(job.stage, Path(job.state_file) if job.state_file and world.leads else None)
    with environment_faults(Path(job.folder)), _memory_faults(job.stage):
        counts = pkgutil.resolve_name(job.entry_point)(job, world, progress)
    heartbeat.stop()
    # With ranks that somebody else started another job may follow, whose first step takes as long again.
    rendezvous.set_timeout(job.launch.startup_seconds)
    peak = max(all_gather(_peak_device_bytes()))
    if world.leads:
        outcome = {**counts, "world_size": world.world_size, "peak_memory_bytes": peak}
        write_text(job.outcome_file, json.dumps(outcome, indent=1) + "\n")


def exit_with_note(error: BaseException, logs: Path, rank: int) -> NoReturn:
    """Leave a note about the failure and end now: with a peer gone, an orderly end would wait for it."""
    failure = Failure.of(error, rank)
    failure.write(logs)
    with suppress(OSError):  # the disk may be what failed
        print(failure.traceback, flush=True)
    os._exit(failure.exit_code)


def redirect_output(logs: Path, rank: int) -> None:
    """Send this rank's output to its log, and each thread's stack if it crashes; rank 0's stderr stays the operator's.

    By descriptor, not by `sys.stdout`: NCCL, gloo and DeepSpeed's extensions write to the descriptors themselves.
    """
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


def _peak_device_bytes() -> int:
    """Peak memory of the device that holds the model."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak_memory_bytes()


if __name__ == "__main__":
    main()
