"""Asking training to stop: a flag that signals raise and the loop reads between steps; and dying with the parent."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

NOTICES = (signal.SIGUSR1, signal.SIGUSR2)  # what schedulers send some time before the end
ORDERS = (signal.SIGTERM, signal.SIGINT)
BOUNCE_SECONDS = 1.0  # torchrun and Slurm both deliver the same SIGTERM: within this time it is one
PARENT = "FOLIO_PARENT"  # process id of the launcher, for the ranks it starts


class Stop:
    """Set by the first signal; a second order ends the process at once with the exit code of a preemption.

    A launcher that cannot deliver signals (another host's) leaves a file instead, which is looked for once a second.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._file: Path | None = None
        self._looked = 0.0

    @contextmanager
    def listening(self, file: Path | None = None) -> Iterator[None]:
        """Take over the stop signals of this process while the block runs; `file` asks the same by being there."""
        self._file = file
        before = {number: signal.signal(number, self._hear) for number in NOTICES + ORDERS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def requested(self) -> bool:
        """Whether this rank was asked to stop; ranks must agree before they act on it."""
        now = time.monotonic()
        if self._since is None and self._file is not None and now - self._looked > BOUNCE_SECONDS:
            self._looked = now
            self._since = now if self._file.exists() else None
        return self._since is not None

    def _hear(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since = now
        elif number in ORDERS and now - self._since > BOUNCE_SECONDS:
            os._exit(75)  # committed checkpoints are complete by construction: there is nothing to clean up


stop = Stop()
