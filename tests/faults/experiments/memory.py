"""Experiment 5: a rank that the kernel kills because there is no memory left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.experiments.blows import Blow, is_running, rows, struck_run
from tests.faults.experiments.launched_folio import LaunchedFolio
from tests.faults.experiments.outcome import RECOVERED, Outcome, unmeasured
from tests.faults.experiments.workshop import Workshop

GROUPS = Path("/sys/fs/cgroup")
LOST = "killed (out of memory?)"
WHAT = "rank 1 killed by the kernel: another program takes what is left of the memory that both may have"
# Takes more and more until it is stopped.
GREEDY = """
import sys, time
from pathlib import Path
Path(sys.argv[1]).write_text("0")
held = []
while len(held) < 200:
    held.append(bytearray(1 << 24))
    time.sleep(0.02)
"""


class MemoryGroup:
    """Processes whose memory the kernel limits together: a control group of version 1 or 2."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        first = (folder / "memory.limit_in_bytes").exists()
        limit, used = ("limit_in_bytes", "usage_in_bytes") if first else ("max", "current")
        self._limit, self._used = folder / f"memory.{limit}", folder / f"memory.{used}"

    @property
    def members(self) -> Path:
        """A process whose id is written here belongs to the group, and what it starts from then on; 0 is the writer."""
        return self.folder / "cgroup.procs"

    def close(self) -> None:
        """Let it have little more than it has."""
        self._limit.write_text(str(int(self._used.read_text()) + (1 << 26)))


@contextmanager
def memory_group() -> Iterator[MemoryGroup | None]:
    """A new group; None where the kernel lets us have none."""
    parent = GROUPS / "memory" if (GROUPS / "memory").is_dir() else GROUPS
    folder = parent / f"folio-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError:
        yield None
        return
    try:
        yield MemoryGroup(folder) if any(folder.glob("memory.*")) else None
    finally:
        folder.rmdir()


def no_memory_left(shop: Workshop) -> list[Outcome]:
    with memory_group() as group:
        if group is None:
            return [unmeasured(5, WHAT, RECOVERED, "this machine lets nobody limit memory (control groups)")]
        limited = group

        def strike(folio: LaunchedFolio) -> bool:
            limited.members.write_text(str(folio.process.pid))
            if not folio.reach(12):
                return False
            victim = folio.ranks()[1].pid
            Path(f"/proc/{victim}/oom_score_adj").write_text("1000")  # the first that the kernel kills
            limited.close()
            greedy = subprocess.Popen([sys.executable, "-c", GREEDY, str(limited.members)])
            try:
                return folio.wait(lambda: not is_running(victim)) and folio.strike(lambda _: None)
            finally:
                greedy.kill()
                greedy.wait()

        blow = Blow(WHAT, strike, (6,), (LOST, "rank 1 on"))
        return rows(5, *struck_run(shop, "no-memory-left", [blow]))
