"""Processes that end with their parent, so that no killed program leaves orphans behind."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl.h


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
