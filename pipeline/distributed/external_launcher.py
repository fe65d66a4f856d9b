"""Ranks that torchrun, deepspeed or srun started: rank 0 does the whole run, the others wait for its training jobs.

Between two jobs may lie hours, in which rank 0 builds a corpus. A collective would time out over them, so the others
wait by polling the ranks' shared key-value store, and the process group forms with the first job. All processes leave
with the same exit code, so that whatever started them reports what happened and not that a rank is missing.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch.distributed as dist
from torch.distributed import Store  # type: ignore[attr-defined]

from pipeline.config.schema import LaunchSection
from pipeline.distributed import rendezvous
from pipeline.distributed.exit_status import RUN_AGAIN, RankExits, StopSignals, counts_or_error, read_counts
from pipeline.distributed.failures import (
    Failure,
    failure_noted,
    failures,
    first_cause,
    first_preemption,
    is_lost_peer,
)
from pipeline.distributed.job import Job
from pipeline.distributed.rank_log import redirect_output
from pipeline.distributed.signals import stop
from pipeline.distributed.worker import run_job_on_rank, set_up_process
from pipeline.distributed.world import World
from pipeline.errors import FolioError, RankLost
from pipeline.runtime.processes import die_with_parent

POLL_SECONDS = 0.5  # between two looks at the store
CAUSE_SECONDS = 3.0  # for the rank that is the cause to leave its note, after this one noticed that it is gone
DISMISS_SECONDS = 5.0  # for the others to hear that they are dismissed, before rank 0 takes the store with it


class ExternalRanks:
    """This process's place among ranks that somebody else started; on rank 0 it is the RankPool of the run.

    Rank 0 commands the others through numbered keys in the shared store: "command/1" holds {"job": path of its file},
    the last one {"exit_code": number}. Each side counts for itself, so no command is overwritten before all read it.
    """

    def __init__(self, world: World, store: Store, launch: LaunchSection) -> None:
        self._world, self._store, self._launch = world, store, launch
        self._num_commands = 0

    def run_job(self, job_file: Path) -> dict[str, Any]:
        """Do the job in a file on every rank, this one included; rank 0's counts. Only for rank 0.

        Raises what `run_local_ranks` would.
        """
        job = Job.read(job_file)
        self._send({"job": str(job_file)})
        with stop.listening(job.stop_file):
            try:
                self._run_on_this_rank(job)
            except RuntimeError as error:
                if not is_lost_peer(error):
                    raise
                # Only an echo. The rank that is the cause may still be writing its note, which names it.
                time.sleep(CAUSE_SECONDS)
                return counts_or_error(job, RankExits({}, {}), StopSignals())
        return read_counts(job)

    def dismiss(self, exit_code: int) -> None:
        """Have the other ranks leave with this exit code; waits a moment until they have heard. Only for rank 0."""
        self._send({"exit_code": exit_code})
        heard = [f"dismissed/{rank}" for rank in range(1, self._world.world_size)]
        # Not for ever: a rank that is gone will never have heard.
        rendezvous.wait_until(lambda: bool(self._store.check(heard)), DISMISS_SECONDS)

    def serve_jobs(self) -> NoReturn:
        """Do rank 0's jobs until it dismisses this rank; the process ends here. For every rank but 0."""
        with stop.listening():
            while "job" in (command := self._receive()):
                job = Job.read(Path(command["job"]))
                redirect_output(job.logs, self._world.rank)
                sys.excepthook = partial(self._exit_with_cause, job)
                self._run_on_this_rank(job)
        self._store.set(f"dismissed/{self._world.rank}", "")
        _leave_process_group()
        sys.exit(command["exit_code"])

    def _run_on_this_rank(self, job: Job) -> None:
        with failure_noted(job.logs, self._world.rank):
            # With the first job, and kept for the next ones: until then there is nothing to keep alive.
            if not dist.is_initialized():
                rendezvous.form_process_group(self._world, self._store, self._launch.startup_seconds)
            run_job_on_rank(job, self._world)

    def _send(self, command: dict[str, Any]) -> None:
        self._store.set(self._next_key(), json.dumps(command))

    def _receive(self) -> dict[str, Any]:
        """Rank 0's next command, whenever it comes. Raises RankLost if rank 0 is gone."""
        key = self._next_key()
        try:
            # Polled: the store's own wait has a timeout, and holds up the handlers of stop signals.
            while not self._store.check([key]):
                time.sleep(POLL_SECONDS)
            command: dict[str, Any] = json.loads(self._store.get(key))
        except dist.DistError as error:
            raise RankLost(f"Rank 0 at {self._world.endpoint} is gone.", remedy=RUN_AGAIN) from error
        return command

    def _next_key(self) -> str:
        self._num_commands += 1
        return f"command/{self._num_commands}"

    def _exit_with_cause(self, job: Job, kind: object, error: BaseException, trace: object) -> NoReturn:
        """Leave with the exit code of the cause, which may be another rank's. An excepthook."""
        own = Failure.of(error, self._world.rank)
        print(own.traceback, flush=True)
        if own.consequence:
            time.sleep(CAUSE_SECONDS)
        notes = failures(job.logs)
        cause = first_cause(notes) or first_preemption(notes) or own
        os._exit(cause.exit_code)


@contextmanager
def external_ranks(launch: LaunchSection) -> Iterator[ExternalRanks]:
    """The ranks that somebody else started, for the block that only rank 0 does; the other ranks never get there.

    When the block ends, the other ranks are dismissed with the exit code that rank 0 will leave with. Raises
    EnvironmentFault if the ranks do not find each other.
    """
    # A launcher that is killed outright cannot end its ranks any more; the kernel can.
    die_with_parent(os.getppid())
    world = World.from_environment()
    set_up_process(launch, world)
    ranks = ExternalRanks(world, rendezvous.meet(world, launch.startup_seconds), launch)
    if not world.leads:
        ranks.serve_jobs()
    exit_code = FolioError.exit_code  # unless the block says better: what a traceback leaves with
    try:
        yield ranks
        exit_code = 0
    except FolioError as error:
        exit_code = error.exit_code
        raise
    finally:
        ranks.dismiss(exit_code)
    _leave_process_group()


def _leave_process_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
