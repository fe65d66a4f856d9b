"""What the operator is told when training ended: the counts, or one error that names the cause and not its echoes."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.distributed.failures import Failure, failures, preemption, refusal
from pipeline.distributed.heartbeat import beats
from pipeline.distributed.job import Job
from pipeline.errors import FolioError, Interrupted, Preempted, RankLost

AGAIN = "Run again: it goes on from the last checkpoint."


@dataclass
class StopSignals:
    """The stop signals that reached the launcher: the first one, when, and whether the operator insisted."""

    first: int | None = None
    since: float = 0.0
    insisted: bool = False


@dataclass(frozen=True)
class RankExits:
    """How the ranks of this machine ended: exit codes (negative for a signal), and of those that did not end by
    themselves whether they were halted."""

    codes: Mapping[int, int]
    halted: Mapping[int, bool]


def failed(code: int) -> bool:
    return code not in (0, Preempted.exit_code)


def counts_or_error(job: Job, end: RankExits, heard: StopSignals) -> dict[str, Any]:
    """The counts that rank 0 left behind; exit codes alone never count as success. Raises the error of the cause."""
    found = failures(job.logs)
    if heard.insisted:
        raise _stopped(heard, "Training was ended at once; the last checkpoint stands.")
    if cause := refusal(found):
        raise cause.error(job.logs)
    if heard.first is not None and -heard.first in end.codes.values():
        raise _stopped(heard, "Training was stopped before it began.")
    if lost := _dead(job, end, found) or _silent(job, end, found):
        raise RankLost(f"{lost}.", remedy=AGAIN)
    if saved := preemption(found):
        raise _stopped(heard, saved.message)
    counts = outcome(job)
    if heard.first is not None:
        raise _stopped(heard, "Training had just ended when it was asked to stop.")
    return counts


def outcome(job: Job) -> dict[str, Any]:
    """Rank 0's counts. Raises RankLost if it did not leave any."""
    try:
        counts: dict[str, Any] = json.loads(job.outcome.read_bytes())
    except (OSError, ValueError):
        raise RankLost(
            f"The ranks of {job.stage} ended without a result; their logs are in {job.logs}.", remedy=AGAIN
        ) from None
    return counts


def _stopped(heard: StopSignals, message: str) -> FolioError:
    kind = Interrupted if heard.first == signal.SIGINT else Preempted
    return kind(message, remedy="The same command goes on.")


def _dead(job: Job, end: RankExits, found: Sequence[Failure]) -> str:
    """The ranks that ended badly without a word."""
    spoke = {failure.rank for failure in found}
    lost = [
        f"{place(job, rank)}: it {_cause(code)}, see {job.logs / f'rank-{rank}.log'}"
        for rank, code in sorted(end.codes.items())
        if failed(code) and rank not in spoke
    ]
    return f"Lost {'; '.join(lost)}" if lost else ""


def _silent(job: Job, end: RankExits, found: Sequence[Failure]) -> str:
    """The ranks that the others waited for in vain."""
    if not any(failure.consequence for failure in found) and not end.halted:
        return ""
    missing = list(end.halted) or sorted(set(beats(job.logs)) - {failure.rank for failure in found})
    names = [place(job, rank) + (" (halted by a signal)" if end.halted.get(rank) else "") for rank in missing]
    if not names:
        return f"The ranks lost contact ({found[0].message}); the logs are in {job.logs}"
    return f"Lost contact with {'; '.join(names)}; the logs are in {job.logs}"


def place(job: Job, rank: int) -> str:
    beat = beats(job.logs).get(rank)
    return beat.place if beat else f"rank {rank} on {socket.gethostname()}, before it joined"


def _cause(code: int) -> str:
    if code == -signal.SIGKILL:
        return "was killed (out of memory?)"
    return f"ended with {signal.Signals(-code).name}" if code < 0 else f"left with exit code {code}"
