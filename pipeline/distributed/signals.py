"""Asking training to stop: a flag that signals or a file raise, and that the loop reads between steps."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from pipeline.errors import Preempted
from pipeline.runtime.stop_signals import (
    DUPLICATE_SECONDS,
    TERMINATION_SIGNALS,
    handle_stop_signals,
    restore_handlers,
)

STOP_FILE_SECONDS = 1.0  # between two looks at the stop file, which may lie on network storage
PARENT = "FOLIO_PARENT"  # environment variable: process id of the launcher, for the ranks it starts


class Stop:
    """Set by the first stop signal; a second termination signal ends the process at once, as preempted.

    A launcher that cannot deliver signals, because the ranks run on another host, creates a file instead.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._file: Path | None = None
        self._looked = 0.0

    @contextmanager
    def listening(self, file: Path | None = None) -> Iterator[None]:
        """Take over the stop signals of this process while the block runs; `file`, once it exists, asks the same."""
        self._file = file
        # A collective that waits in C for a silent rank delays the handler until it returns or times out.
        previous = handle_stop_signals(self._on_signal)
        try:
            yield
        finally:
            restore_handlers(previous)

    def requested(self) -> bool:
        """Whether this rank was asked to stop; ranks must agree before they act on it."""
        now = time.monotonic()
        if self._since is None and self._file is not None and now - self._looked > STOP_FILE_SECONDS:
            self._looked = now
            self._since = now if self._file.exists() else None
        return self._since is not None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # Nothing but a flag: the step under way must end, since the other ranks wait in the same collectives.
        now = time.monotonic()
        if self._since is None:
            self._since = now
        elif number in TERMINATION_SIGNALS and now - self._since > DUPLICATE_SECONDS:
            # Committed checkpoints are complete by construction: there is nothing to clean up.
            os._exit(Preempted.exit_code)


# One per process: signal handlers are, too, and the loop that reads it is far from the launcher that sets it.
stop = Stop()
