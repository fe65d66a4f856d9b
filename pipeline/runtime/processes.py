"""Processes: the cores they have, that they end with their parent, and that they import nobody else's code."""

from __future__ import annotations

import ctypes
import multiprocessing.util
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MOST_PROCESSES = 4096  # that a machine may be asked for
PR_SET_PDEATHSIG = 1  # prctl.h
# Runs the `-c CODE` that follows on the command line, as Python would, but without the current folder in the import
# path, where `-c` puts it. Python's own option for that, -P, came with 3.11.
RUN_WITHOUT_CURRENT_FOLDER = (
    "import sys; sys.path = [path for path in sys.path if path]; code = sys.argv[2]; del sys.argv[1:3]; exec(code)"
)


def usable_cores() -> int:
    """Cores that this process may use, not those of the machine: Slurm and containers give out fewer."""
    return len(os.sched_getaffinity(0))


def cores_of_a_rank(ranks: int) -> int:
    """The cores that each of `ranks` on this machine computes with."""
    return max(usable_cores() // ranks, 1)


def die_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Have the kernel send signal `number` to this process when `parent`, its parent's process id, ends.

    However the parent ends, also by SIGKILL: nothing has to run there. Linux only; elsewhere it does nothing.
    """
    # Strictly, Linux sends it when the *thread* that started this process ends: start processes from the main thread.
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number)
    # The kernel tells of later ends only. A parent that ended before we asked has left us to init.
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


@contextmanager
def importing_nothing_from_here() -> Iterator[None]:
    """Processes that `multiprocessing` spawns while the block runs import nothing from the current folder.

    They do while they start, before they are told this process's import path: a `random.py` of the user's would run in
    each worker, and in the process that keeps track of semaphores.
    """
    # multiprocessing (3.10 to 3.14) has no public way to put an option before its `-c`; all its command lines take the
    # interpreter's options from this function.
    util: Any = multiprocessing.util
    interpreter_options = util._args_from_interpreter_flags
    util._args_from_interpreter_flags = lambda: [*interpreter_options(), "-c", RUN_WITHOUT_CURRENT_FOLDER]
    try:
        yield
    finally:
        util._args_from_interpreter_flags = interpreter_options
