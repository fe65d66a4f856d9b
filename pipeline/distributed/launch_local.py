"""Starts ranks on this machine, watches them, and turns whatever happens into counts or one error."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import psutil

from pipeline.distributed.exit_status import RankExits, StopSignals, counts_or_error, is_failure
from pipeline.distributed.job import Job
from pipeline.distributed.rank_log import OPERATOR, opened_log
from pipeline.distributed.signals import PARENT
from pipeline.distributed.world import LISTENER, LOOPBACK, listening_socket
from pipeline.runtime.stop_signals import (
    DUPLICATE_SECONDS,
    STOP_SIGNALS,
    TERMINATION_SIGNALS,
    handle_stop_signals,
    restore_handlers,
)

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
    processes: list[Process] = []
    with stop_signals_relayed(
        ask=lambda number: _send(processes, number), end=lambda: _send(processes, signal.SIGKILL)
    ) as signals:
        _start_ranks(job, ranks, processes)
        # One that came meanwhile reached only those that stood already; a second time does not count.
        if signals.first is not None:
            _send(processes, signals.first)
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

    previous = handle_stop_signals(on_signal)
    try:
        yield signals
    finally:
        restore_handlers(previous)


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


def _start_ranks(job: Job, ranks: int, processes: list[Process]) -> None:
    """Add one process per rank to `processes`, in order. Raises EnvironmentFault if launch.port is taken."""
    # The port is opened here and its socket handed to rank 0, so that no other process can take it in between.
    with listening_socket(LOOPBACK, job.launch.port or 0) as listener:
        port = listener.getsockname()[1]
        world = {"WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_ADDR": LOOPBACK, "MASTER_PORT": port}
        environment = {name: value for name, value in os.environ.items() if name not in FOREIGN_VARIABLES}
        environment |= {name: str(value) for name, value in world.items()} | {PARENT: str(os.getpid())}
        operator = os.dup(2)
        try:
            of_rank_0 = {LISTENER: listener.fileno(), OPERATOR: operator}
            for rank in range(ranks):
                processes.append(_start_rank(job, rank, environment, of_rank_0 if rank == 0 else {}))
        finally:
            os.close(operator)


def _start_rank(job: Job, rank: int, environment: Mapping[str, str], descriptors: Mapping[str, int]) -> Process:
    """One rank's process. It inherits the descriptors, and reads their numbers in the variables that name them."""
    of_rank = {"RANK": rank, "LOCAL_RANK": rank, **descriptors}
    log = opened_log(job.logs, rank)
    # Inherited: signals wait in the new process until it is ready for them (`start_rank.py`).
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline.distributed.start_rank", str(job.path)],
            # Python looks for modules in the folder that `-m` is called in. The user's may hold a `gpt.py`.
            cwd=job.folder,
            env={**environment, **{name: str(value) for name, value in of_rank.items()}},
            stdin=subprocess.DEVNULL,
            # From the very start: a process that cannot even import `start_rank` has its last words there, too.
            stdout=log,
            stderr=log,
            pass_fds=list(descriptors.values()),
            start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on once
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.close(log)


def _send(processes: Sequence[Process], number: int) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)


def _halted(process: Process) -> bool:
    """Whether somebody stopped the process, as with SIGSTOP or a debugger."""
    return psutil.Process(process.pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
