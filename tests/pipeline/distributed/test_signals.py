"""The flag that training looks at between steps."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from pipeline.distributed.signals import Stop


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])
def test_stop_is_requested_by_signal(number: signal.Signals) -> None:
    stop = Stop()
    with stop.listening():
        assert not stop.requested()
        os.kill(os.getpid(), number)
        assert stop.requested()


def test_handlers_return_to_their_owner() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Stop().listening():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_signal_that_two_launchers_deliver_counts_once() -> None:
    stop = Stop()
    with stop.listening():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # would end this process
        assert stop.requested()


def test_stop_is_requested_by_file(tmp_path: Path) -> None:
    stop = Stop()
    with stop.listening(tmp_path / "stop"):
        (tmp_path / "stop").touch()
        assert stop.requested()
