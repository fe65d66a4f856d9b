"""`folio` as a subprocess that an experiment disturbs, and what was seen of it until all that it started was gone."""

from __future__ import annotations

import re
import subprocess
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.distributed.heartbeat import Beat, beats
from tests.faults.conftest import started

LIMIT_SECONDS = 300.0  # for a command of seconds: after that it hangs, also on a machine with much else to do
ORPHAN_SECONDS = 10.0  # what the ranks have to follow their launcher
MARK = "FAULTS_PROGRAM"  # environment variable by which everything that a command started is found
PREFIX = "folio: "  # of the line of a refusal


@dataclass(frozen=True)
class Ended:
    """How a command ended. `code` is None if it had to be killed because it hung."""

    code: int | None
    stderr: str
    seconds: float | None  # from the disturbance to the end of the last process; None if nothing disturbed it
    orphans: int
    struck: bool = True

    @property
    def refusals(self) -> list[str]:
        return [line.removeprefix(PREFIX) for line in self.stderr.splitlines() if line.startswith(PREFIX)]

    @property
    def said(self) -> str:
        """The line that the operator reads last."""
        lines = self.refusals or self.stderr.strip().splitlines() or [""]
        return lines[-1].strip()

    @property
    def has_traceback(self) -> bool:
        return "Traceback (most recent call last)" in self.stderr

    @property
    def resumed(self) -> int:
        """The step that this command went on from."""
        found = re.search(r"resuming at step ([\d,]+)", self.stderr)
        return int(found[1].replace(",", "")) if found else 0


class LaunchedFolio:
    """One command, started in `folder`, whose artifacts go to `folder/store`."""

    def __init__(self, folder: Path, command: str, before: str = "", **changes: str) -> None:
        self.folder, self.began, self.mark = folder, time.time(), uuid.uuid4().hex
        self.struck_at: float | None = None
        self.missed = False  # set where the command ended before it could be disturbed
        self.process: subprocess.Popen[str] = started(
            f"exec {before} folio {command}", folder, **{MARK: self.mark}, **changes
        )

    def ranks(self) -> dict[int, Beat]:
        """The last beat of each rank of this very command."""
        logs = self.folder.glob("store/*/logs")
        return {rank: beat for log in logs for rank, beat in beats(log).items() if beat.time > self.began}

    def reach(self, step: int, ranks: int = 2) -> bool:
        """Whether all ranks came to `step` before the command ended."""
        return self.wait(lambda: len(at := self.ranks()) == ranks and all((b.step or 0) >= step for b in at.values()))

    def wait(self, condition: Callable[[], bool], pause_seconds: float = 0.01) -> bool:
        """Whether the condition came true before the command ended."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            if condition():
                return True
            time.sleep(pause_seconds)
        return False

    def sees(self, pattern: str) -> bool:
        """Whether a path below the folder that matches came into being before the command ended."""
        return self.wait(lambda: any(self.folder.glob(pattern)), 0.001)

    def strike(self, act: Callable[[LaunchedFolio], None]) -> bool:
        """Disturb the command now; the time that it takes to end counts from here."""
        self.struck_at = time.monotonic()
        act(self)
        return True

    def family(self) -> list[psutil.Process]:
        """All living processes that came from this command, also those whose parents are gone."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue  # it ended between two looks, or belongs to the kernel
        return found

    def end(self, seconds: float = LIMIT_SECONDS) -> Ended:
        """Wait until the command and all that it started are gone; whatever stays behind is counted, then killed."""
        hung, stderr = False, ""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            hung = True
            self.process.kill()
        deadline = time.monotonic() + ORPHAN_SECONDS
        while (left := self.family()) and time.monotonic() < deadline and not hung:
            time.sleep(0.02)
        took = None if self.struck_at is None else round(time.monotonic() - self.struck_at, 2)
        for process in left:
            process.kill()
        stderr = self.process.communicate()[1]
        code = None if hung else self.process.returncode
        return Ended(code, stderr, took, 0 if hung else len(left), not self.missed)


def done(folder: Path, command: str, before: str = "", **changes: str) -> Ended:
    """A command that nothing disturbs while it runs."""
    return LaunchedFolio(folder, command, before, **changes).end()
