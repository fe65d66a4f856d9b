"""Memory of this process: how much it used, and how malloc keeps what was freed."""

from __future__ import annotations

import ctypes
import resource

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h


def keep_freed_memory() -> None:
    """Have malloc keep freed memory instead of returning it to the kernel.

    By default glibc returns every large buffer, and each step faults all its pages in again: half of the time of a
    small model's step. Does nothing where the C library has no `mallopt`.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)
        libc.mallopt(M_TOP_PAD, 256 << 20)


def peak_memory_bytes(*, children: bool = False) -> int:
    """Peak resident memory of this process; with `children` that of its largest finished child, if larger."""
    who = [resource.RUSAGE_SELF, *([resource.RUSAGE_CHILDREN] if children else [])]
    return 1024 * max(resource.getrusage(process).ru_maxrss for process in who)  # Linux counts in KiB
