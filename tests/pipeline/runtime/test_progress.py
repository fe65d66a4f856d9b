"""What an operator sees of long work, with a clock that the test moves."""

import io
import json

import pytest
from rich.console import Console

from pipeline.runtime import progress
from pipeline.runtime.progress import Progress


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now

    def time(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.fixture
def shown(tmp_path):
    """A stage's progress and a function for what it has printed."""
    out = io.StringIO()
    made = Progress("pretrain", tmp_path / "progress.json")
    made.console = Console(file=out, force_terminal=False, soft_wrap=True)
    made.printed = lambda: out.getvalue().splitlines()
    return made


def test_work_under_two_seconds_shows_nothing(shown, clock):
    with shown.task("mixing", 10, "steps") as task:
        for _ in range(10):
            clock.now += 0.1
            task.advance()
    assert shown.printed() == []


def test_long_work_without_a_terminal_is_a_line_every_ten_seconds_with_rate_and_time_left(shown, clock):
    with shown.task("mixing", 2_441, "steps") as task:
        for _ in range(25):
            clock.now += 1
            task.advance(2, "loss 5.000")
    assert shown.printed() == [
        " pretrain  mixing: 22/2,441 steps, 2/s  20 min left  loss 5.000",
        " pretrain  mixing: 44/2,441 steps, 2/s  20 min left  loss 5.000",
        " pretrain  mixing: 50/2,441 steps in 25 s, 2/s",
    ]


def test_bytes_and_large_counts_read_short(shown, clock):
    with shown.task("reading", 3_000_000, "bytes") as task, shown.task("scoring", None, "tokens") as other:
        clock.now += 30
        task.advance(1_500_000)
        other.advance(1_234_567)
    assert [line.split(": ")[1] for line in shown.printed()[:2]] == [
        "1.5 MB of 3.0 MB, 50.0 kB/s  30 s left",
        "1.23M tokens, 41.2k/s",
    ]


def test_work_done_before_this_process_does_not_enter_the_rate(shown, clock):
    with shown.task("training", 200, "steps") as task:
        task.start_at(100)
        clock.now += 10
        task.advance(10)
        assert task.rate() == 1.0
        assert task.seconds_left() == 90.0


def test_latest_state_is_kept_for_status_and_goes_when_the_work_ends(shown, clock):
    with shown.task("training", 200, "steps") as task:
        clock.now += 2
        task.advance(50, "loss 4.2")
        state = json.loads(shown.state_file.read_text())
        assert (state["done"], state["total"], state["unit"], state["info"]) == (50, 200, "steps", "loss 4.2")
        assert state["seconds_left"] == 6.0
    assert not shown.state_file.exists()


def test_terminal_shows_a_bar_that_goes_when_the_work_ends(clock):
    out = io.StringIO()
    made = Progress("pretrain")
    made.console = Console(file=out, force_terminal=True, width=120, highlight=False)
    with made.task("training", 10, "steps") as task:
        clock.now += 3
        task.advance(5)
    assert "5/10 steps, 1.67/s  3.0 s left" in out.getvalue(), "the bar's text"
    assert "training: 5/10 steps in 3.0 s" in out.getvalue(), "the line that stays"
