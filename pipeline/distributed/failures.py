"""Why a rank left, as it says itself in `logs/rank-N.error.json`, and which of several reasons is the cause."""

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
MAX_TRACE = 8_000  # characters, the last ones
NOTE_BYTES = 64_000  # what JSON may make of them, with message and remedy

# What gloo and NCCL say, as plain RuntimeErrors, when another rank went away or does not answer (torch 2.10 to 2.13).
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
    """One rank's reason. `consequence` marks a failure that only says that some other rank is gone."""

    rank: int
    host: str
    exit_code: int
    message: str
    remedy: str
    traceback: str
    consequence: bool
    time: float

    @classmethod
    def of(cls, error: BaseException, rank: int) -> Failure:
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        known = error if isinstance(error, FolioError) else None
        consequence = known is None and lost_peer(error)
        return cls(
            rank=rank,
            host=socket.gethostname(),
            exit_code=known.exit_code if known else RankLost.exit_code if consequence else FolioError.exit_code,
            message=known.message if known else f"{type(error).__name__}: {str(error)[:MAX_MESSAGE]}",
            remedy=known.remedy if known else "",
            traceback=trace[-MAX_TRACE:],
            consequence=consequence,
            time=time.time(),
        )

    def write(self, logs: Path) -> None:
        """Fill the note that was reserved for this rank."""
        text = json.dumps(asdict(self), indent=1).encode()
        with _note(logs, self.rank).open("r+b") as file:
            file.write(text.ljust(NOTE_BYTES))

    def error(self, logs: Path) -> FolioError:
        """The failure as the error that the operator sees; a bug of ours gets a pointer to its traceback."""
        kind = BY_EXIT_CODE.get(self.exit_code)
        if kind is not None:
            return kind(self.message, remedy=self.remedy)
        return FolioError(
            f"Rank {self.rank} on {self.host} failed: {self.message}.", remedy=f"Traceback in {_note(logs, self.rank)}."
        )


def reserve_note(logs: Path, rank: int) -> None:
    """Take the space for this rank's note while there is some: the disk may be full when it is needed."""
    logs.mkdir(parents=True, exist_ok=True)
    _note(logs, rank).write_bytes(b" " * NOTE_BYTES)


def _note(logs: Path, rank: int) -> Path:
    return logs / f"rank-{rank}.error.json"


@contextmanager
def noted(logs: Path, rank: int) -> Iterator[None]:
    """Leave a note about whatever ends the block."""
    reserve_note(logs, rank)
    try:
        yield
    except BaseException as error:
        Failure.of(error, rank).write(logs)
        raise


def lost_peer(error: BaseException) -> bool:
    """Whether this is what a collective raises because another rank is gone or silent."""
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in PEER_LOST)


def failures(logs: Path) -> list[Failure]:
    """What the ranks said about their ends, oldest first."""
    found = []
    for path in sorted(logs.glob("rank-*.error.json")):
        try:
            found.append(Failure(**json.loads(path.read_bytes())))
        except (OSError, ValueError, TypeError):
            continue
    return sorted(found, key=lambda failure: failure.time)


def refusal(found: Sequence[Failure]) -> Failure | None:
    """The first failure that is a cause: not the echo of another rank's end, and not a saved preemption."""
    calm = (Preempted.exit_code, Interrupted.exit_code)
    return next((one for one in found if not one.consequence and one.exit_code not in calm), None)


def preemption(found: Sequence[Failure]) -> Failure | None:
    return next((one for one in found if one.exit_code == Preempted.exit_code), None)
