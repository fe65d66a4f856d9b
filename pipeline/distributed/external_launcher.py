"""Ranks that torchrun, deepspeed or srun started: rank 0 does the whole run, the others join whenever it trains.

Between trainings, which may be hours apart, the others only look into the ranks' store. All leave with one exit code.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch.distributed as dist
from torch.distributed import Store  # type: ignore[attr-defined]

from pipeline.config.schema import LaunchSection
from pipeline.distributed import rendezvous
from pipeline.distributed.exit_status import AGAIN, RankExits, StopSignals, counts_or_error, outcome
from pipeline.distributed.failures import Failure, failures, lost_peer, noted, preemption, refusal
from pipeline.distributed.job import Job
from pipeline.distributed.signals import stop
from pipeline.distributed.worker import into_log, prepare, run_job_on_rank
from pipeline.distributed.world import World
from pipeline.errors import FolioError, RankLost
from pipeline.runtime.processes import die_with_parent

LOOK_SECONDS = 0.5  # between two looks at the store
ECHO_SECONDS = 3.0  # for the rank that is the cause to leave its note, after this one noticed that it is gone
FAREWELL_SECONDS = 5.0  # for the others to hear that they are dismissed, before rank 0 takes the store with it

T = TypeVar("T")


class ExternalRanks:
    """This process's place among ranks that somebody else started. Orders are numbered keys in the shared store."""

    def __init__(self, world: World, store: Store, launch: LaunchSection) -> None:
        self.world, self._store, self._launch = world, store, launch
        self._orders = 0

    def lead(self, job: Job) -> dict[str, Any]:
        """Train on all ranks, from rank 0; returns its counts, or raises what `run_ranks` would."""
        self._store.set(self._next_order(), json.dumps({"job": str(job.path)}))
        with stop.listening(job.stop_file):
            try:
                self._train(job)
            except RuntimeError as error:
                if not lost_peer(error):
                    raise
                time.sleep(ECHO_SECONDS)
                return counts_or_error(job, RankExits({}, {}), StopSignals())
        return outcome(job)

    def follow(self) -> NoReturn:
        """Train whenever rank 0 does, until it dismisses this rank."""
        with stop.listening():
            while "job" in (order := self._awaited_order()):
                job = Job.read(Path(order["job"]))
                into_log(job.logs, self.world.rank)
                sys.excepthook = partial(self._give_up, job)
                self._train(job)
        self._store.set(f"dismissed/{self.world.rank}", "")
        _disband()
        sys.exit(order["exit_code"])

    @contextmanager
    def led(self) -> Iterator[None]:
        """Dismiss the other ranks when the block ends, with the exit code that rank 0 will leave with."""
        code = FolioError.exit_code
        try:
            yield
            code = 0
        except FolioError as error:
            code = error.exit_code
            raise
        finally:
            self._store.set(self._next_order(), json.dumps({"exit_code": code}))
            self._see_off()
        _disband()

    def _train(self, job: Job) -> None:
        with noted(job.logs, self.world.rank):
            if not dist.is_initialized():
                rendezvous.unite(self.world, self._store, self._launch.startup_seconds)
            run_job_on_rank(job, self.world)

    def _next_order(self) -> str:
        self._orders += 1
        return f"order/{self._orders}"

    def _awaited_order(self) -> dict[str, Any]:
        key = self._next_order()
        try:
            while not self._store.check([key]):
                time.sleep(LOOK_SECONDS)
            order: dict[str, Any] = json.loads(self._store.get(key))
        except dist.DistError as error:
            raise RankLost(f"Rank 0 at {self.world.endpoint} is gone.", remedy=AGAIN) from error
        return order

    def _see_off(self) -> None:
        """Wait a moment for every rank to have heard; one that is gone has nothing to hear."""
        heard = [f"dismissed/{rank}" for rank in range(1, self.world.world_size)]
        rendezvous.within(FAREWELL_SECONDS, lambda: bool(self._store.check(heard)))

    def _give_up(self, job: Job, kind: object, error: BaseException, trace: object) -> NoReturn:
        """Leave with the exit code of the cause, which may be another rank's."""
        own = Failure.of(error, self.world.rank)
        print(own.traceback, flush=True)
        if own.consequence:
            time.sleep(ECHO_SECONDS)
        found = failures(job.logs)
        cause = refusal(found) or preemption(found) or own
        os._exit(cause.exit_code)


_crew: ContextVar[ExternalRanks] = ContextVar("crew")


def present() -> ExternalRanks:
    """The crew of this process. Only inside `together`."""
    return _crew.get()


def together(launch: LaunchSection, lead: Callable[[], T]) -> T:
    """Have rank 0 do `lead`, whose training stages then run on every rank; the other ranks never return from here.

    Raises EnvironmentFault if the ranks do not find each other, and what `lead` raises.
    """
    die_with_parent(os.getppid())
    world = World.from_environment()
    prepare(launch, world)
    crew = ExternalRanks(world, rendezvous.meet(world, launch.startup_seconds), launch)
    _crew.set(crew)
    if not world.leads:
        crew.follow()
    with crew.led():
        return lead()


def _disband() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
