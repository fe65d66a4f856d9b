"""Waiting for processes and passing signals on, with processes that only sleep and leave.

`tests/faults/test_ranks.py` does the same with ranks that train.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from pipeline.distributed import launch_local
from pipeline.distributed.exit_status import RankExits
from pipeline.distributed.launch_local import stop_signals_relayed, wait_for_ranks

Process = subprocess.Popen[bytes]


@pytest.fixture
def sleepers() -> Iterator[Callable[..., list[Process]]]:
    """sleepers("0.1; exit 3", "60"): processes that sleep for so many seconds, and then leave like this."""
    started: list[Process] = []

    def start(*commands: str) -> list[Process]:
        started.extend(
            subprocess.Popen(["sh", "-c", f"sleep {command}"], start_new_session=True) for command in commands
        )
        return started

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_exit_codes_are_by_rank(sleepers: Callable[..., list[Process]]) -> None:
    assert wait_for_ranks(sleepers("0", "0.1; exit 75"), 60) == RankExits({0: 0, 1: 75}, {})


def test_after_a_failure_the_others_have_a_moment_and_are_killed_then(
    sleepers: Callable[..., list[Process]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch_local, "GRACE_SECONDS", 0.5)
    processes = sleepers("0; exit 3", "0.2; exit 6", "60; true")
    started = time.monotonic()
    assert wait_for_ranks(processes, 60) == RankExits({0: 3, 1: 6}, {2: False})
    assert 0.5 < time.monotonic() - started < 5
    assert processes[2].returncode == -signal.SIGKILL


def test_after_a_success_the_others_have_the_timeout(sleepers: Callable[..., list[Process]]) -> None:
    started = time.monotonic()
    assert wait_for_ranks(sleepers("0", "60; true"), 0.5) == RankExits({0: 0}, {1: False})
    assert 0.5 < time.monotonic() - started < 5


def test_halted_process_is_told_from_a_busy_one(sleepers: Callable[..., list[Process]]) -> None:
    processes = sleepers("0", "60; true")
    processes[1].send_signal(signal.SIGSTOP)
    while psutil.Process(processes[1].pid).status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)
    assert wait_for_ranks(processes, 0.2).halted == {1: True}


@pytest.fixture
def relayed() -> Iterator[tuple[list[int], list[str]]]:
    """What was asked and ended because of the signals that this process got."""
    asked: list[int] = []
    ended: list[str] = []
    with stop_signals_relayed(ask=asked.append, end=lambda: ended.append("end")):
        yield asked, ended


def test_first_stop_signal_asks_and_its_duplicate_does_nothing(relayed: tuple[list[int], list[str]]) -> None:
    asked, ended = relayed
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
        os.kill(os.getpid(), number)
    assert (asked, ended) == ([signal.SIGTERM], [])


def test_later_termination_signal_ends_and_a_later_notice_does_not(
    relayed: tuple[list[int], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, ended = relayed
    monkeypatch.setattr(launch_local, "DUPLICATE_SECONDS", 0.0)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        os.kill(os.getpid(), number)
    assert (asked, ended) == ([signal.SIGUSR1], [])
    os.kill(os.getpid(), signal.SIGINT)
    assert (asked, ended) == ([signal.SIGUSR1], ["end"])


def test_handlers_return_to_their_owner() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with stop_signals_relayed(ask=lambda number: None, end=lambda: None) as signals:
        os.kill(os.getpid(), signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) == before
    assert (signals.first, signals.insisted) == (signal.SIGUSR1, False)
