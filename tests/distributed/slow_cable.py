"""A cable between two network namespaces that delays every frame and loses some: `python slow_cable.py A B 0.1 0.05`.

The kernel's netem does the same where it is there; this needs only root and /dev/net/tun. Both ends are called wire,
and the program says "ready" once they exist.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import random
import select
import struct
import sys
import time
from collections import deque
from pathlib import Path

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000  # linux/if_tun.h
CLONE_NEWNET = 0x40000000  # linux/sched.h
LARGEST_FRAME = 65_536


def end_of_cable(namespace: str) -> int:
    """A network device called wire in a namespace; what the kernel sends there is read from the file, and written."""
    with Path(f"/run/netns/{namespace}").open() as place:
        if ctypes.CDLL(None, use_errno=True).setns(place.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns to {namespace}")
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"wire", IFF_TAP | IFF_NO_PI))
    return device


def carry(ends: tuple[int, int], delay_seconds: float, lost_share: float) -> None:
    """Hand frames from one end to the other, late and not all, for ever."""
    draw = random.Random(1)
    other_end = {ends[0]: ends[1], ends[1]: ends[0]}
    under_way = deque[tuple[float, int, bytes]]()  # when it arrives, where, and the frame
    while True:
        wait = max(under_way[0][0] - time.monotonic(), 0.0) if under_way else None
        for end in select.select(ends, (), (), wait)[0]:
            frame = os.read(end, LARGEST_FRAME)
            if draw.random() >= lost_share:
                under_way.append((time.monotonic() + delay_seconds, other_end[end], frame))
        while under_way and under_way[0][0] <= time.monotonic():
            _, end, frame = under_way.popleft()
            os.write(end, frame)


if __name__ == "__main__":
    names, (delay, lost) = sys.argv[1:3], map(float, sys.argv[3:])
    cable = end_of_cable(names[0]), end_of_cable(names[1])
    print("ready", flush=True)
    carry(cable, delay, lost)
