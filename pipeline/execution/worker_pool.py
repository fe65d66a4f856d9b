"""Where units of work run: in this process, or in a pool of processes on this machine.

A stage hands over a function and its units; the pool decides where they run and gives the results back in the order of
the units. So results never depend on the number of workers, and another kind of pool is another class here, not
another stage.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Protocol, TypeVar

from pipeline.errors import EnvironmentFault
from pipeline.runtime.processes import die_with_parent, importing_nothing_from_here
from pipeline.runtime.stop_signals import STOP_SIGNALS

Unit = TypeVar("Unit")
Result = TypeVar("Result")
# Not SIGTERM: by that the executor itself ends the workers of a pool that has lost one.
IGNORED_SIGNALS = tuple(number for number in STOP_SIGNALS if number != signal.SIGTERM)
GRACE_SECONDS = 0.5  # for this process's own signal to arrive
IN_FLIGHT_PER_WORKER = 3  # units submitted ahead, so that no worker waits while results are read


class WorkerPool(Protocol):
    """Runs a function over units of work."""

    def in_order(self, function: Callable[[Unit], Result], units: Iterable[Unit]) -> Iterator[Result]:
        """function(unit) of each unit, in order; few units are in memory at a time.

        An exception of `function` is raised here as itself. Raises EnvironmentFault if a worker was killed.
        """
        ...


class InProcess:
    """Runs the units one after the other in this process."""

    def in_order(self, function: Callable[[Unit], Result], units: Iterable[Unit]) -> Iterator[Result]:
        yield from map(function, units)


class ProcessPool:
    """Runs the units in `workers` processes of this machine."""

    def __init__(self, workers: int) -> None:
        # Spawned, not forked: the parent runs threads (network streams, progress bars), and a lock that one of them
        # holds while forking stays locked in the child for ever.
        context = multiprocessing.get_context("spawn")
        self._in_flight = IN_FLIGHT_PER_WORKER * workers
        with _quiet_starts():
            self._executor = ProcessPoolExecutor(
                workers, mp_context=context, initializer=_start_worker, initargs=(os.getpid(),)
            )

    def in_order(self, function: Callable[[Unit], Result], units: Iterable[Unit]) -> Iterator[Result]:
        waiting: deque[Future[Result]] = deque()
        try:
            for unit in units:
                # The executor starts its processes one by one, when there is work for them.
                with _quiet_starts():
                    waiting.append(self._executor.submit(function, unit))
                # `units` may be an endless stream: it is read only as fast as results are taken.
                if len(waiting) >= self._in_flight:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            # A scheduler's SIGTERM reaches workers and parent; in the parent its handler raises, here at the latest.
            time.sleep(GRACE_SECONDS)
            raise EnvironmentFault(
                "A worker process was killed (out of memory?).",
                remedy="Lower launch.workers, or free memory, and run again.",
            ) from None
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        """Drop what has not begun, and wait for what has."""
        self._executor.shutdown(wait=True, cancel_futures=True)


@contextmanager
def worker_pool(workers: int) -> Iterator[WorkerPool]:
    """A pool of `workers` processes; with one worker there is no other process."""
    if workers <= 1:
        yield InProcess()
        return
    pool = ProcessPool(workers)
    try:
        yield pool
    finally:
        pool.close()


@contextmanager
def _quiet_starts() -> Iterator[None]:
    """Processes that are started in the block import nothing from the current folder, and ignore signals to stop.

    Ctrl-C, a closed terminal and many schedulers reach the whole process group; the parent decides what it means for
    the workers. They inherit that the signals are blocked: one that came while they import would end them, Ctrl-C in a
    traceback of each.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED_SIGNALS)
    try:
        with importing_nothing_from_here():
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _start_worker(parent: int) -> None:
    # Whatever a library does to the mask that was inherited.
    for number in IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    die_with_parent(parent)
