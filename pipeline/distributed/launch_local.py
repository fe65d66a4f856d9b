"""Starts ranks on this machine, watches them, and turns whatever happens into counts or one error."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import psutil

from pipeline.distributed.exit_status import RankExits, StopSignals, counts_or_error, is_failure
from pipeline.distributed.job import Job
from pipeline.distributed.signals import DUPLICATE_SECONDS, PARENT, STOP_SIGNALS, TERMINATION_SIGNALS
from pipeline.distributed.world import LISTENER, LOOPBACK, listening_socket

GRACE_SECONDS = 2.0  # for the other ranks to say what they saw, once one is gone
POLL_SECONDS = 0.05
# Variables of another launcher or network that Folio may have been started under; new ranks must not read them.
FOREIGN_VARIABLES = ("LOCAL_SIZE", "TORCHELASTIC_USE_AGENT_STORE", "GLOO_SOCKET_IFNAME")

Process = subprocess.Popen[bytes]


def run_local_ranks(job: Job, ranks: int) -> dict[str, Any]:
    """Do the job with this many ranks on this machine; returns rank 0's counts.

    Every rank is down when this returns or raises, also when this process is killed. Raises the error of the rank that
    failed first, RankLost if one died without a note or went silent, Preempted or Interrupted after a stop signal.
    """
    processes = _start_ranks(job, ranks)
    with stop_signals_relayed(
        ask=lambda number: _send(processes, number), end=lambda: _send(processes, signal.SIGKILL)
    ) as signals:
        exits = wait_for_ranks(processes, job.launch.timeout_seconds)
    return counts_or_error(job, exits, signals)


@contextmanager
def stop_signals_relayed(*, ask: Callable[[int], None], end: Callable[[], None]) -> Iterator[StopSignals]:
    """While the block runs, the first stop signal calls `ask` with its number; a later termination signal calls `end`.

    Yields what arrived so far, filled in as it comes.
    """
    signals = StopSignals()

    def on_signal(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if signals.first is None:
            signals.first, signals.since = number, now
            ask(number)
        elif number in TERMINATION_SIGNALS and now - signals.since > DUPLICATE_SECONDS:
            signals.insisted = True
            end()

    previous = {number: signal.signal(number, on_signal) for number in STOP_SIGNALS}
    try:
        yield signals
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def wait_for_ranks(processes: Sequence[Process], patience_seconds: float) -> RankExits:
    """Wait until every process ended, and say how. Those that do not end in time are killed.

    Once one failed, the others have GRACE_SECONDS to note what they saw; once one ended well, they have
    `patience_seconds` to follow.
    """
    deadline = math.inf
    try:
        while running := [rank for rank, process in enumerate(processes) if process.poll() is None]:
            now = time.monotonic()
            codes = {rank: process.returncode for rank, process in enumerate(processes) if rank not in running}
            if codes:
                # The earliest deadline holds: a second failure must not give the remaining ranks more time.
                patience = GRACE_SECONDS if any(map(is_failure, codes.values())) else patience_seconds
                deadline = min(deadline, now + patience)
            if now > deadline:
                # Asked before the `finally` kills them: a halted process shows its state only while it lives.
                return RankExits(codes, halted={rank: _halted(processes[rank]) for rank in running})
            time.sleep(POLL_SECONDS)
        return RankExits({rank: process.returncode for rank, process in enumerate(processes)}, halted={})
    finally:
        _send(processes, signal.SIGKILL)
        for process in processes:
            process.wait()


def _start_ranks(job: Job, ranks: int) -> list[Process]:
    """One process per rank, in the order of ranks. Raises EnvironmentFault if launch.port is taken."""
    # The port is opened here and its socket handed to rank 0, so that no other process can take it in between.
    with listening_socket(LOOPBACK, job.launch.port or 0) as listener:
        port, descriptor = listener.getsockname()[1], listener.fileno()
        world = {"WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_ADDR": LOOPBACK, "MASTER_PORT": port}
        environment = {name: value for name, value in os.environ.items() if name not in FOREIGN_VARIABLES}
        environment |= {name: str(value) for name, value in world.items()} | {PARENT: str(os.getpid())}
        command = [sys.executable, "-m", "pipeline.distributed.worker", str(job.path)]
        processes = []
        for rank in range(ranks):
            of_rank = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            if rank == 0:
                of_rank[LISTENER] = str(descriptor)
            processes.append(
                subprocess.Popen(
                    command,
                    env=environment | of_rank,
                    stdin=subprocess.DEVNULL,
                    pass_fds=[descriptor] if rank == 0 else [],
                    start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on once
                )
            )
    return processes


def _send(processes: Sequence[Process], number: int) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)


def _halted(process: Process) -> bool:
    """Whether somebody stopped the process, as with SIGSTOP or a debugger."""
    return psutil.Process(process.pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
