"""Work spread over processes: results in the order of the input, bounded memory, no process outlives its parent."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from pipeline.errors import EnvironmentFault

Item = TypeVar("Item")
Result = TypeVar("Result")
IN_FLIGHT_PER_WORKER = 3
PR_SET_PDEATHSIG = 1


@contextmanager
def worker_pool(workers: int) -> Iterator[Executor | None]:
    """Processes for `in_order`; with one worker there are none, and `in_order` works in this process."""
    if workers <= 1:
        yield None
        return
    # Spawned, not forked: the parent runs threads (network streams, progress bars), and a lock that one of them holds
    # while forking stays locked in the child for ever.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_follow_parent, initargs=(os.getpid(),))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def in_order(
    pool: Executor | None, function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """function(item) of each item, in order. At most a few items per worker are under way at a time.

    An exception of `function` is raised here as itself. Raises EnvironmentFault if a worker was killed.
    """
    if pool is None:
        yield from map(function, items)
        return
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= IN_FLIGHT_PER_WORKER * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise EnvironmentFault(
            "A worker process was killed (out of memory?).",
            remedy="Lower launch.workers, or free memory, and run again.",
        ) from None
    finally:
        for future in waiting:
            future.cancel()


def _follow_parent(parent: int) -> None:
    """Die when the parent dies, however it dies, and leave Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the request
            os._exit(1)
