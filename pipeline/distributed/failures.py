"""Why a rank failed, as it says itself in `logs/rank-N.error.json`, and which of several failures is the cause."""

from __future__ import annotations

import json
import socket
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.errors import BY_EXIT_CODE, FolioError, Interrupted, Preempted, RankLost

MAX_MESSAGE = 1_000  # characters of an error that is not ours
MAX_TRACEBACK = 8_000  # characters, the last ones
NOTE_BYTES = 64_000  # room for both, escaped as JSON, with message and remedy

# What gloo and NCCL say, as plain RuntimeErrors, when another rank went away or does not answer (torch 2.10 to 2.13).
# Their classes do not tell a lost peer from a bug of ours; the text is all there is.
PEER_LOST = (
    "gloo/transport",
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Timed out waiting",
    "NCCL",
    "Failed to recv",
)


@dataclass(frozen=True)
class Failure:
    """Why one rank failed. `consequence` marks a failure that only says that another rank is gone.

    When one rank dies, the others fail a moment later in the collective that they share with it. The operator must
    read the cause, not its echoes, which are many and say nothing.
    """

    rank: int
    host: str
    exit_code: int
    message: str
    remedy: str
    traceback: str
    consequence: bool
    time: float  # seconds since the epoch, on this rank's clock

    @classmethod
    def of(cls, error: BaseException, rank: int) -> Failure:
        """The failure that an error means, on this host and now."""
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        known = error if isinstance(error, FolioError) else None
        consequence = known is None and is_lost_peer(error)
        return cls(
            rank=rank,
            host=socket.gethostname(),
            exit_code=known.exit_code if known else RankLost.exit_code if consequence else FolioError.exit_code,
            message=known.message if known else f"{type(error).__name__}: {str(error)[:MAX_MESSAGE]}",
            remedy=known.remedy if known else "",
            traceback=trace[-MAX_TRACEBACK:],
            consequence=consequence,
            time=time.time(),
        )

    def write(self, logs: Path) -> None:
        """Fill the note that was reserved for this rank."""
        text = json.dumps(asdict(self), indent=1).encode()
        # In place, and as long as what was reserved: a full disk has no room for a draft to rename.
        with note_path(logs, self.rank).open("r+b") as file:
            file.write(text.ljust(NOTE_BYTES))

    def error(self, logs: Path) -> FolioError:
        """The failure as the error that the operator sees; a bug of ours gets a pointer to its traceback."""
        error_class = BY_EXIT_CODE.get(self.exit_code)
        if error_class is not None:
            return error_class(self.message, remedy=self.remedy)
        return FolioError(
            f"Rank {self.rank} on {self.host} failed: {self.message}.",
            remedy=f"Traceback in {note_path(logs, self.rank)}.",
        )


def note_path(logs: Path, rank: int) -> Path:
    """Where a rank leaves its note."""
    return logs / f"rank-{rank}.error.json"


def reserve_note(logs: Path, rank: int) -> None:
    """Take the space for this rank's note while there is some: the disk may be full when it is needed."""
    logs.mkdir(parents=True, exist_ok=True)
    note_path(logs, rank).write_bytes(b" " * NOTE_BYTES)


@contextmanager
def failure_noted(logs: Path, rank: int) -> Iterator[None]:
    """Leave a note about whatever error ends the block."""
    reserve_note(logs, rank)
    try:
        yield
    except BaseException as error:
        Failure.of(error, rank).write(logs)
        raise


def is_lost_peer(error: BaseException) -> bool:
    """Whether this is what a collective raises because another rank is gone or silent."""
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in PEER_LOST)


def failures(logs: Path) -> list[Failure]:
    """The failures that ranks noted, oldest first. A note that is still blank or half written says nothing yet."""
    notes = []
    for path in sorted(logs.glob("rank-*.error.json")):
        try:
            notes.append(Failure(**json.loads(path.read_bytes())))
        except (OSError, ValueError, TypeError):
            continue
    return sorted(notes, key=lambda failure: failure.time)


def first_cause(notes: Sequence[Failure]) -> Failure | None:
    """The first failure that is a cause: neither the echo of another rank's end nor a preemption that was saved."""
    saved = (Preempted.exit_code, Interrupted.exit_code)
    causes = (failure for failure in notes if not failure.consequence and failure.exit_code not in saved)
    return next(causes, None)


def first_preemption(notes: Sequence[Failure]) -> Failure | None:
    """The first rank that saved and stopped because it was asked to."""
    return next((failure for failure in notes if failure.exit_code == Preempted.exit_code), None)
