"""A rank's log, `logs/rank-N.log`: where its output goes from its first moment on, and what was said there last."""

from __future__ import annotations

import faulthandler
import os
import re
import sys
from pathlib import Path

LOGS = "logs"  # folder below the artifact's, beside `job.json`
TAIL_BYTES = 8_000  # of a log that are looked at for its last line
MAX_LINE = 200  # characters of it in a message
# Environment variable: descriptor of the operator's stderr, for rank 0, whose own goes to the log while it starts.
OPERATOR = "FOLIO_STDERR"
# What pdsh and DeepSpeed's launcher add after the line that says why a host failed.
EPILOGUE = re.compile(r"pdsh@|.*\[INFO\] \[")


def log_path(logs: Path, rank: int) -> Path:
    """Where a rank writes."""
    return logs / f"rank-{rank}.log"


def opened_log(logs: Path, rank: int) -> int:
    """Descriptor of a rank's log, to append to; the caller closes it."""
    logs.mkdir(parents=True, exist_ok=True)
    return os.open(log_path(logs, rank), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def redirect_output(logs: Path, rank: int) -> None:
    """Send all of this process's output to the rank's log, and each thread's stack if it crashes.

    By descriptor, not by `sys.stdout`: NCCL, gloo and DeepSpeed's extensions write to the descriptors themselves.
    """
    log = opened_log(logs, rank)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    os.close(log)
    faulthandler.enable(sys.stdout)


def last_line(log: Path, since: float) -> str:
    """The last line that was written to a log, shortened; empty if nothing was after `since`, in epoch seconds.

    A log holds every attempt: what an earlier one said must not be taken for this one's words.
    """
    try:
        if log.stat().st_mtime < since:
            return ""
        with log.open("rb") as file:
            file.seek(max(log.stat().st_size - TAIL_BYTES, 0))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip() and not EPILOGUE.match(line)]
    return said[-1][:MAX_LINE] if said else ""
