"""What an operator sees while a stage runs: a bar with rate and time left on a terminal, plain lines elsewhere.

Everything goes to stderr, so that stdout stays a result. The latest state is also kept in a small JSON file, which
`folio status` reads from another process.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from pipeline.runtime.files import replacing
from pipeline.runtime.formatting import readable_bytes, readable_count, readable_seconds

QUIET_SECONDS = 2.0  # work that ends sooner shows nothing
LINE_SECONDS = 10.0  # between plain lines when stderr is not a terminal
FILE_SECONDS = 1.0  # between two states in the file


class Progress:
    """Shows tasks and lines of one stage. `state_file` receives the latest state of the running task as JSON."""

    def __init__(self, stage: str, state_file: Path | None = None) -> None:
        self.stage = stage
        self.state_file = state_file
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Print one plain line, above a bar if one is showing."""
        self.console.print(f"{self.stage:>9}  {text}", markup=False)

    @contextmanager
    def task(self, label: str, total: float | None, unit: str) -> Iterator[Task]:
        """Show a task while the block runs. `unit` is "bytes" or a plural noun; `total` may be unknown."""
        task = Task(self, label, total, unit)
        with task:
            yield task


class Task:
    """One running task. `advance` may be called as often as you like: mostly it only adds and looks at the clock."""

    def __init__(self, progress: Progress, label: str, total: float | None, unit: str) -> None:
        self.progress, self.label, self.total, self.unit = progress, label, total, unit
        self.done = 0.0
        self.began_with = 0.0
        self.info = ""
        self.started = time.monotonic()
        self._shown = self.started
        self._saved = 0.0
        self._bars: Bars | None = None
        self._bar: TaskID | None = None

    def __enter__(self) -> Task:
        return self

    def start_at(self, done: float) -> None:
        """Count `done` as finished before this process began; it does not enter the rate."""
        self.done = self.began_with = done

    def advance(self, amount: float = 1, info: str | None = None) -> None:
        """Add finished work; `info` is a few words shown beside the bar, such as the loss."""
        self.done += amount
        if info is not None:
            self.info = info
        now = time.monotonic()  # goes on evenly when somebody sets the machine's clock
        if now - self._saved > FILE_SECONDS:
            self._saved = now
            self._save()
        if now - self.started > QUIET_SECONDS:
            self._show(now)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
        elapsed = time.monotonic() - self.started
        # What failed says so itself; a line with a rate would look as if it had succeeded.
        if kind is None and elapsed > QUIET_SECONDS:
            self.progress.say(f"{self.label}: {self._amount()} in {readable_seconds(elapsed)}{self._rate()}")
        # A state that outlived its task would tell `folio status` of work that nobody does any more.
        if self.progress.state_file is not None:
            self.progress.state_file.unlink(missing_ok=True)

    def _show(self, now: float) -> None:
        if self.progress.console.is_terminal:
            self._show_bar()
        elif now - self._shown > LINE_SECONDS:
            self._shown = now
            self.progress.say(f"{self.label}: {self._describe()}")

    def _show_bar(self) -> None:
        # Made at the first call, so that short work never flashes a bar.
        if self._bars is None:
            # rich's own columns for rate and time left know nothing of work that an earlier process did.
            columns = TextColumn("{task.description}"), BarColumn(bar_width=28), TextColumn("{task.fields[text]}")
            self._bars = Bars(*columns, console=self.progress.console, transient=True, refresh_per_second=4)
            self._bars.start()
            self._bar = self._bars.add_task(f"{self.progress.stage:>9}  {self.label}", total=self.total, text="")
        assert self._bar is not None, "a started bar has a task"
        self._bars.update(self._bar, completed=self.done, text=self._describe())

    def _describe(self) -> str:
        left = self.seconds_left()
        parts = [self._amount() + self._rate(), f"{readable_seconds(left)} left" if left is not None else "", self.info]
        return "  ".join(part for part in parts if part)

    def _amount(self) -> str:
        if self.unit == "bytes":
            return readable_bytes(self.done) + (f" of {readable_bytes(self.total)}" if self.total else "")
        return _short(self.done) + (f"/{_short(self.total)}" if self.total else "") + f" {self.unit}"

    def _rate(self) -> str:
        rate = self.rate()
        return f", {readable_bytes(rate) if self.unit == 'bytes' else readable_count(rate)}/s" if rate else ""

    def rate(self) -> float:
        """Work per second since this process began."""
        return (self.done - self.began_with) / max(time.monotonic() - self.started, 1e-9)

    def seconds_left(self) -> float | None:
        """At the rate so far; None while there is neither a rate nor a total."""
        rate = self.rate()
        return max(self.total - self.done, 0) / rate if self.total and rate else None

    def _save(self) -> None:
        target = self.progress.state_file
        if target is None:
            return
        state = {"stage": self.progress.stage, "label": self.label, "done": self.done, "total": self.total}
        state |= {"unit": self.unit, "rate": self.rate(), "seconds_left": self.seconds_left(), "info": self.info}
        state |= {"pid": os.getpid(), "time": time.time()}
        # Not durable: after a power cut nobody asks how far a stage had come, and a sync would hold up a step.
        with replacing(target, durable=False) as draft:
            draft.write_text(json.dumps(state))


def _short(number: float) -> str:
    """Every digit of what people count in steps, three of what they count in tokens."""
    return f"{number:,.0f}" if number < 100_000 else readable_count(number)


def warn(text: str) -> None:
    """Print one warning line to stderr."""
    print(f"warning: {text}", file=sys.stderr, flush=True)
