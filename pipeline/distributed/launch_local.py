"""Starts the ranks of one machine, watches them, and turns whatever happens into counts or one error."""

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

from pipeline.distributed.exit_status import RankExits, StopSignals, counts_or_error, failed
from pipeline.distributed.job import Job
from pipeline.distributed.signals import BOUNCE_SECONDS, NOTICES, ORDERS, PARENT
from pipeline.distributed.world import LISTENER, LOOPBACK, listening_socket

GRACE_SECONDS = 2.0  # for the other ranks to say what they saw, once one is gone
POLL_SECONDS = 0.05
FOREIGN = ("LOCAL_SIZE", "TORCHELASTIC_USE_AGENT_STORE", "GLOO_SOCKET_IFNAME")  # of another launcher or network

Process = subprocess.Popen[bytes]


def run_local_ranks(job: Job, ranks: int) -> dict[str, Any]:
    """Train with so many ranks on this machine; returns rank 0's counts.

    Every rank is down when this returns or raises, also when this process is killed. Raises the error of the rank that
    failed first, RankLost if one died without a word or went silent, Preempted or Interrupted after a stop signal.
    """
    processes = _started(job, ranks)
    with relayed(lambda number: _send(processes, number), lambda: _send(processes, signal.SIGKILL)) as heard:
        end = watched(processes, job.launch.timeout_seconds)
    return counts_or_error(job, end, heard)


@contextmanager
def relayed(ask: Callable[[int], None], end: Callable[[], None]) -> Iterator[StopSignals]:
    """While the block runs, the first stop signal calls `ask` with its number, and a later order calls `end`."""
    heard = StopSignals()

    def hear(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if heard.first is None:
            heard.first, heard.since = number, now
            ask(number)
        elif number in ORDERS and now - heard.since > BOUNCE_SECONDS:
            heard.insisted = True
            end()

    before = {number: signal.signal(number, hear) for number in NOTICES + ORDERS}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def watched(processes: Sequence[Process], patience_seconds: float) -> RankExits:
    """Wait until every process ended. Once one failed the others have a moment to say why; once one ended well, they
    have `patience_seconds` to follow. Whoever is left then is killed."""
    deadline = math.inf
    try:
        while running := [rank for rank, process in enumerate(processes) if process.poll() is None]:
            now = time.monotonic()
            codes = {rank: process.returncode for rank, process in enumerate(processes) if rank not in running}
            if codes:
                deadline = min(
                    deadline, now + (GRACE_SECONDS if any(map(failed, codes.values())) else patience_seconds)
                )
            if now > deadline:
                return RankExits(codes, halted={rank: _halted(processes[rank]) for rank in running})
            time.sleep(POLL_SECONDS)
        return RankExits({rank: process.returncode for rank, process in enumerate(processes)}, halted={})
    finally:
        _send(processes, signal.SIGKILL)
        for process in processes:
            process.wait()


def _started(job: Job, ranks: int) -> list[Process]:
    """One process per rank. The port is opened here and handed to rank 0, so nobody can take it in between."""
    with listening_socket(LOOPBACK, job.launch.port or 0) as listener:
        port, descriptor = listener.getsockname()[1], listener.fileno()
        world = {"WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_ADDR": LOOPBACK, "MASTER_PORT": port}
        environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
        environment |= {name: str(value) for name, value in world.items()} | {PARENT: str(os.getpid())}
        command = [sys.executable, "-m", "pipeline.distributed.worker", str(job.path)]
        processes = []
        for rank in range(ranks):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} | ({LISTENER: str(descriptor)} if rank == 0 else {})
            processes.append(
                subprocess.Popen(
                    command,
                    env=environment | own,
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
