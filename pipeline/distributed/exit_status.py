"""What the operator is told when training ended: the counts, or one error that names the cause and not its echoes."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.distributed.failures import Failure, failures, first_cause, first_preemption
from pipeline.distributed.heartbeat import beats
from pipeline.distributed.job import Job
from pipeline.distributed.rank_log import last_line, log_path
from pipeline.errors import FolioError, Interrupted, Preempted, RankLost

RUN_AGAIN = "Run again: it goes on from the last checkpoint."
LAUNCHER_LOG = "launcher.log"  # in the folder of logs: what DeepSpeed's launcher, pdsh and ssh said


@dataclass
class StopSignals:
    """The stop signals that reached the launcher: the first one, when (monotonic seconds), and whether a later one
    insisted."""

    first: int | None = None
    since: float = 0.0
    insisted: bool = False


@dataclass(frozen=True)
class RankExits:
    """How the ranks of this machine ended: exit code by rank, negative for a signal; and of the ranks that had to be
    killed because they did not end, whether each had been halted (SIGSTOP, a debugger). Both are empty for ranks that
    this process did not start."""

    codes: Mapping[int, int]
    halted: Mapping[int, bool]


def is_failure(code: int) -> bool:
    """Whether an exit code is neither success nor a preemption that was saved."""
    return code not in (0, Preempted.exit_code)


def counts_or_error(job: Job, exits: RankExits, signals: StopSignals) -> dict[str, Any]:
    """The counts that rank 0 left behind. Raises the error of the cause.

    Exit codes alone never count as success: DeepSpeed's launcher exits with 0 when its child is killed.
    """
    notes = failures(job.logs)
    # The order is that of what explains most. An operator who insisted knows why; what a rank says itself beats what
    # can be guessed from its exit code; and ranks that were lost beat those that saved, since not all did then.
    if signals.insisted:
        raise _stopped(signals, "Training was ended at once; the last checkpoint stands.")
    if cause := first_cause(notes):
        raise cause.error(job.logs)
    # A rank that dies of the launcher's own signal had not yet installed its handlers: there is nothing to save.
    if signals.first is not None and -signals.first in exits.codes.values():
        raise _stopped(signals, "Training was stopped before it began.")
    if lost := _died_without_note(job, exits, notes) or _unresponsive(job, exits, notes):
        raise RankLost(f"{lost}.", remedy=RUN_AGAIN)
    if saved := first_preemption(notes):
        raise _stopped(signals, saved.message)
    counts = read_counts(job)
    # The stage is finished, but the operator wants the whole run to stop, not the next stage to begin.
    if signals.first is not None:
        raise _stopped(signals, "Training had just ended when it was asked to stop.")
    return counts


def read_counts(job: Job) -> dict[str, Any]:
    """Rank 0's counts. Raises RankLost if it did not leave any."""
    try:
        counts: dict[str, Any] = json.loads(job.outcome_file.read_bytes())
    except (OSError, ValueError):
        # A rank that wrote nothing may not even have started, which only DeepSpeed's launcher can tell then.
        logs = [*sorted(job.logs.glob("rank-*.log")), job.logs / LAUNCHER_LOG]
        log = next((log for log in logs if last_line(log, _began(job))), job.logs)
        raise RankLost(
            f"The ranks of {job.stage} ended without a result, {_last_words(job, log)}.", remedy=RUN_AGAIN
        ) from None
    return counts


def _stopped(signals: StopSignals, message: str) -> FolioError:
    error_class = Interrupted if signals.first == signal.SIGINT else Preempted
    return error_class(message, remedy="The same command goes on.")


def _died_without_note(job: Job, exits: RankExits, notes: Sequence[Failure]) -> str:
    """Names the ranks that exited with a failure and left no note about it; empty if there are none."""
    with_note = {failure.rank for failure in notes}
    lost = [
        f"{_place(job, rank)}: it {_manner(code)}, {_last_words(job, log_path(job.logs, rank))}"
        for rank, code in sorted(exits.codes.items())
        if is_failure(code) and rank not in with_note
    ]
    return f"Lost {'; '.join(lost)}" if lost else ""


def _unresponsive(job: Job, exits: RankExits, notes: Sequence[Failure]) -> str:
    """Names the ranks that the others waited for in vain; empty if nobody waited."""
    if not any(failure.consequence for failure in notes) and not exits.halted:
        return ""
    # Of ranks on other hosts there are no exits: those that beat once and left no note are the silent ones.
    silent = list(exits.halted) or sorted(set(beats(job.logs)) - {failure.rank for failure in notes})
    names = [_place(job, rank) + (" (halted by a signal)" if exits.halted.get(rank) else "") for rank in silent]
    if not names:
        return f"The ranks lost contact ({notes[0].message}); the logs are in {job.logs}"
    return f"Lost contact with {'; '.join(names)}; the logs are in {job.logs}"


def _place(job: Job, rank: int) -> str:
    beat = beats(job.logs).get(rank)
    return beat.place if beat else f"rank {rank} on {socket.gethostname()}, before it joined"


def _last_words(job: Job, log: Path) -> str:
    """Where to read on, and what this attempt wrote there last."""
    if line := last_line(log, _began(job)):
        return f'see {log}, which ends with "{line}"'
    return f"and said nothing in {log}" if log.exists() else f"before it opened a log in {job.logs}"


def _began(job: Job) -> float:
    """When this attempt began: its job is written just before the ranks start. Epoch seconds, on the store's clock."""
    return job.path.stat().st_mtime


def _manner(code: int) -> str:
    """How a process ended, as the predicate of a sentence."""
    # The kernel's out-of-memory killer sends SIGKILL and leaves no other trace in the process.
    if code == -signal.SIGKILL:
        return "was killed (out of memory?)"
    return f"ended with {signal.Signals(-code).name}" if code < 0 else f"left with exit code {code}"
