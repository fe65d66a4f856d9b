from __future__ import annotations

import os
import signal

import pytest

import cli.main
from pipeline.runtime.stop_signals import STOP_SIGNALS, handle_stop_signals, restore_handlers


def test_every_stop_signal_reaches_the_handler_until_it_is_taken_back() -> None:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    heard: list[int] = []
    previous = handle_stop_signals(lambda number, frame: heard.append(number))
    try:
        for number in STOP_SIGNALS:
            os.kill(os.getpid(), number)
    finally:
        restore_handlers(previous)
    assert heard == list(STOP_SIGNALS)
    assert {number: signal.getsignal(number) for number in STOP_SIGNALS} == before


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        previous = handle_stop_signals(lambda number, frame: pytest.fail("heard"))
        os.kill(os.getpid(), signal.SIGHUP)
        restore_handlers(previous)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_program_knows_the_same_signals_before_it_has_imported_anything() -> None:
    assert set(cli.main.STOP_SIGNALS) == set(STOP_SIGNALS)
