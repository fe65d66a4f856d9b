"""Faults on request, so that tests can prove what Folio survives: `FOLIO_FAULT=point:rank:step:action`.

A rank that reaches `point` at `step` does the action: kill or stop itself, terminate itself politely, raise, run out
of disk, or (point backward) multiply its loss by nan or by 1000. Unset, which is always outside of tests, a point
costs one comparison. A test that restarts the run unsets the variable, so a fault strikes once.
"""

from __future__ import annotations

import errno
import math
import os
import signal

_PLAN = os.environ.get("FOLIO_FAULT", "")
_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "terminate": signal.SIGTERM}
_FACTORS = {"nan": math.nan, "spike": 1000.0}


def inject(point: str, *, rank: int, step: int) -> float:
    """Do the planned action if it is planned for this point, rank and step; the factor to multiply a loss with."""
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
