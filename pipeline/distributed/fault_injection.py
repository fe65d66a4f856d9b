"""Faults on request, so that tests can prove what Folio survives: `FOLIO_FAULT=point:rank:step:action`.

A rank that reaches `point` at `step` does the action: "kill" (SIGKILL), "stop" (SIGSTOP) or "terminate" (SIGTERM)
itself, "raise" a RuntimeError, "enospc" (the disk is full), or at point backward multiply its loss by "nan", for a
"spike" by 1000, for a "rise" by 2. Outside of tests the variable is never set, and a point costs one comparison. A
test that restarts the run unsets the variable, so a fault strikes once.
"""

from __future__ import annotations

import errno
import math
import os
import signal

# Read once: the launcher hands its environment to the ranks, and a fault must not appear in the middle of a run.
_PLAN = os.environ.get("FOLIO_FAULT", "")
_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "terminate": signal.SIGTERM}
_FACTORS = {"nan": math.nan, "spike": 1000.0, "rise": 2.0}


def inject(point: str, *, rank: int, step: int) -> float:
    """Do the action that is planned for this point, rank and step, if any; the factor to multiply a loss with."""
    return _act(point, rank, step) if _PLAN else 1.0


def _act(point: str, rank: int, step: int) -> float:
    *where, action = _PLAN.split(":")
    if where != [point, str(rank), str(step)]:
        return 1.0
    if action in _SIGNALS:
        os.kill(os.getpid(), _SIGNALS[action])
    elif action == "enospc":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    elif action == "raise":
        raise RuntimeError(f"planned fault at {point}, rank {rank}, step {step}")
    return _FACTORS.get(action, 1.0)
