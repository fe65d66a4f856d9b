"""A sign of life per rank: the step it is at, in `logs/rank-N.beat`, for whoever has to say which rank hangs."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

BEAT_BYTES = 256  # a beat is padded to this size: a shorter one must cover the longer one that it overwrites


class Heartbeat:
    """Writes this rank's beat in place: one system call, so that a beat at every step costs next to nothing.

    Reaching the second step proves that the first one succeeded on every rank; `warmed_up` is called then, once. A
    heartbeat that was never started writes nothing, so that a loop can be tried without a launcher.
    """

    def __init__(self) -> None:
        self.step: int | None = None
        self._rank = 0
        self._file: int | None = None
        self._warmed_up: Callable[[], None] | None = None

    def start(self, logs: Path, rank: int, warmed_up: Callable[[], None]) -> None:
        """Write the first beat, before any step; `logs` is the job's folder of logs."""
        logs.mkdir(parents=True, exist_ok=True)
        self.stop()
        self._rank, self._warmed_up = rank, warmed_up
        # The descriptor stays open: opening could fail or hang later, on the full or stale disk to be reported.
        self._file = os.open(logs / f"rank-{rank}.beat", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        self._write()

    def beat(self, step: int) -> None:
        """Say that this rank now begins `step`."""
        # Resumed trainings begin at any step, so warmth is a change of step, not a number.
        warm = self.step is not None and step != self.step
        self.step = step
        self._write()
        if warm and self._warmed_up is not None:
            self._warmed_up()
            self._warmed_up = None

    def stop(self) -> None:
        """Forget the step and close the file; the last beat stays there to be read."""
        if self._file is not None:
            os.close(self._file)
        self.step = self._file = self._warmed_up = None

    def _write(self) -> None:
        if self._file is None:
            return
        fields = {"rank": self._rank, "host": socket.gethostname(), "pid": os.getpid()}
        fields |= {"step": self.step, "time": time.time()}
        os.pwrite(self._file, json.dumps(fields).ljust(BEAT_BYTES).encode(), 0)


# One per process: the loop beats, and does not know whether and where a worker has started it.
heartbeat = Heartbeat()


@dataclass(frozen=True)
class Beat:
    """What a rank last said about itself; `step` is None before its first one, `time` in seconds since the epoch."""

    rank: int
    host: str
    pid: int
    step: int | None
    time: float

    @property
    def place(self) -> str:
        """For messages: "rank 1 on node7, at step 12"."""
        step = "before its first step" if self.step is None else f"at step {self.step}"
        return f"rank {self.rank} on {self.host}, {step}"


def beats(logs: Path) -> dict[int, Beat]:
    """Every rank's last beat, by rank; one that is just being written is left out."""
    by_rank = {}
    for path in sorted(logs.glob("rank-*.beat")):
        try:
            beat = Beat(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            continue
        by_rank[beat.rank] = beat
    return by_rank
