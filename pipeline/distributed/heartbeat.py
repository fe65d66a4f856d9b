"""A sign of life per rank: the step it is at, in `logs/rank-N.beat`, for whoever has to say which rank hangs."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

WIDTH = 256  # bytes of a beat, padded: a shorter one must cover a longer one


class Heartbeat:
    """Writes this rank's beat in place: one system call, so it costs nothing to beat at every step.

    The second step is proof that the first one succeeded everywhere; `warmed_up` is called then, once. A pulse that was
    never started is silent, so a loop can be tried without a launcher.
    """

    def __init__(self) -> None:
        self.step: int | None = None
        self._rank = 0
        self._file: int | None = None
        self._warmed_up: Callable[[], None] | None = None

    def start(self, logs: Path, rank: int, warmed_up: Callable[[], None]) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self.stop()
        self._rank, self._warmed_up = rank, warmed_up
        self._file = os.open(logs / f"rank-{rank}.beat", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        self._write()

    def beat(self, step: int) -> None:
        """Say that this rank now begins `step`."""
        warm = self.step is not None and step != self.step
        self.step = step
        self._write()
        if warm and self._warmed_up is not None:
            self._warmed_up()
            self._warmed_up = None

    def stop(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self.step = self._file = self._warmed_up = None

    def _write(self) -> None:
        if self._file is None:
            return
        said = {"rank": self._rank, "host": socket.gethostname(), "pid": os.getpid()}
        said |= {"step": self.step, "time": time.time()}
        os.pwrite(self._file, json.dumps(said).ljust(WIDTH).encode(), 0)


heartbeat = Heartbeat()


@dataclass(frozen=True)
class Beat:
    """What a rank last said about itself."""

    rank: int
    host: str
    pid: int
    step: int | None
    time: float

    @property
    def place(self) -> str:
        """ "rank 1 on node7, at step 12" """
        return f"rank {self.rank} on {self.host}, " + (
            "before its first step" if self.step is None else f"at step {self.step}"
        )


def beats(logs: Path) -> dict[int, Beat]:
    """Every rank's last beat, by rank; one that is just being written is left out."""
    found = {}
    for path in sorted(logs.glob("rank-*.beat")):
        try:
            beat = Beat(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            continue
        found[beat.rank] = beat
    return found
