"""The signals that ask a run to stop, and who handles them.

`cli/main.py` names them again, for the moment before anything of ours is imported.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

# Schedulers send the first two some time before the end, a terminal that is closed the third; the last is the alarm of
# `folio run --minutes`.
ADVANCE_NOTICES = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGALRM)
TERMINATION_SIGNALS = (signal.SIGTERM, signal.SIGINT)
STOP_SIGNALS = ADVANCE_NOTICES + TERMINATION_SIGNALS
DUPLICATE_SECONDS = 1.0  # torchrun and Slurm both deliver the same SIGTERM: within this time it counts once

Handler = Callable[[int, FrameType | None], object]


def handle_stop_signals(handler: Handler) -> dict[signal.Signals, Any]:
    """Have the handler called for each stop signal; the handlers so far, by signal.

    Only the main thread may do so, and Python runs it there, between two bytecodes.
    """
    # `nohup` ignores SIGHUP for whatever it starts, and means it.
    heard = [number for number in STOP_SIGNALS if (number, signal.getsignal(number)) != (signal.SIGHUP, signal.SIG_IGN)]
    return {number: signal.signal(number, handler) for number in heard}


def restore_handlers(handlers: Mapping[signal.Signals, Any]) -> None:
    """Undo `handle_stop_signals`."""
    for number, handler in handlers.items():
        signal.signal(number, handler)
