from __future__ import annotations

import errno
import math
import signal
from typing import Any

import pytest

from pipeline.distributed import fault_injection


def plan(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(fault_injection, "_PLAN", text)


def test_nothing_happens_unless_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    plan(monkeypatch, "")
    assert fault_injection.inject("save", rank=0, step=0) == 1.0
    plan(monkeypatch, "save:1:8:raise")
    for point, rank, step in [("commit", 1, 8), ("save", 0, 8), ("save", 1, 4)]:
        assert fault_injection.inject(point, rank=rank, step=step) == 1.0


def test_planned_fault_strikes_at_its_point_rank_and_step(monkeypatch: pytest.MonkeyPatch) -> None:
    plan(monkeypatch, "save:1:8:raise")
    with pytest.raises(RuntimeError, match="planned fault at save, rank 1, step 8"):
        fault_injection.inject("save", rank=1, step=8)
    plan(monkeypatch, "save:1:8:enospc")
    with pytest.raises(OSError) as caught:
        fault_injection.inject("save", rank=1, step=8)
    assert caught.value.errno == errno.ENOSPC
    plan(monkeypatch, "backward:0:2:nan")
    assert math.isnan(fault_injection.inject("backward", rank=0, step=2))


def test_signals_go_to_the_process_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    monkeypatch.setattr("os.kill", lambda pid, number: sent.append(number))
    for action in ("kill", "stop", "terminate"):
        plan(monkeypatch, f"step:0:1:{action}")
        fault_injection.inject("step", rank=0, step=1)
    assert sent == [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM]
