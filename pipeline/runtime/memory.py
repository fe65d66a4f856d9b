"""Memory of this process: how much it used, and how malloc keeps what was freed."""

from __future__ import annotations

import ctypes
import resource

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h


def keep_freed_memory() -> None:
    """Have malloc keep freed memory instead of returning it to the kernel.

    By default glibc returns every large buffer, and each step faults all its pages in again: half of the time of a
    small model's step. Does nothing where the C library has no `mallopt`, as on macOS.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)  # no buffer gets a mapping of its own, which `free` would unmap
        libc.mallopt(M_TRIM_THRESHOLD, -1)  # the end of the heap is never given back
        libc.mallopt(M_TOP_PAD, 256 << 20)  # and grows by 256 MiB at a time


def peak_memory_bytes(*, children: bool = False) -> int:
    """Peak resident memory of this process; with `children` that of its largest finished descendant, if larger."""
    # At `exec` Linux keeps the peak of the program before, that is, of whatever started this process: a small child of
    # a large parent shows the parent's. Ranks and workers are larger than what starts them.
    # The kernel keeps a maximum over children, not a sum: what several used at the same time cannot be read off.
    processes = [resource.RUSAGE_SELF, *([resource.RUSAGE_CHILDREN] if children else [])]
    return 1024 * max(resource.getrusage(process).ru_maxrss for process in processes)  # Linux counts in KiB
