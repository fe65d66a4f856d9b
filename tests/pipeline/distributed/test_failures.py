"""A rank's note about its failure, and which of several notes is the cause."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from pipeline.distributed.failures import (
    MAX_TRACEBACK,
    NOTE_BYTES,
    Failure,
    failure_noted,
    failures,
    first_cause,
    first_preemption,
    is_lost_peer,
    note_path,
    reserve_note,
)
from pipeline.errors import DataError, FolioError, Interrupted, Preempted, RankLost

ECHO = RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:4242")


def noted(logs: Path, rank: int, error: BaseException) -> Failure:
    """What is read back of the note that a rank leaves about an error."""
    reserve_note(logs, rank)
    Failure.of(error, rank).write(logs)
    return next(failure for failure in failures(logs) if failure.rank == rank)


def test_note_fits_its_reserved_space_whatever_the_error(tmp_path: Path) -> None:
    failure = noted(tmp_path, 0, ValueError("\x00" * 100_000))
    assert note_path(tmp_path, 0).stat().st_size == NOTE_BYTES
    assert failure.message.startswith("ValueError")
    assert len(failure.traceback) == MAX_TRACEBACK


def test_reserved_note_says_nothing_yet(tmp_path: Path) -> None:
    reserve_note(tmp_path, 0)
    assert failures(tmp_path) == []


def test_note_that_is_half_written_is_passed_over(tmp_path: Path) -> None:
    noted(tmp_path, 0, ECHO)
    note_path(tmp_path, 1).write_bytes(note_path(tmp_path, 0).read_bytes()[:20])
    assert [failure.rank for failure in failures(tmp_path)] == [0]


def test_refusal_keeps_its_class_message_and_remedy(tmp_path: Path) -> None:
    error = noted(tmp_path, 0, DataError("Shard x is damaged.", remedy="Restore it.")).error(tmp_path)
    assert (type(error), str(error)) == (DataError, "Shard x is damaged. Restore it.")


def test_bug_points_to_its_traceback(tmp_path: Path) -> None:
    error = noted(tmp_path, 3, OSError(errno.EIO, "oops")).error(tmp_path)
    assert (type(error), error.exit_code) == (FolioError, 1)
    assert "failed: OSError: [Errno 5] oops." in error.message
    assert error.remedy == f"Traceback in {tmp_path}/rank-3.error.json."


@pytest.mark.parametrize(
    "text",
    [
        "[../third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 3000ms for recv",
        "Connection reset by peer",
        "NCCL communicator was aborted on rank 1",
        "Failed to recv, got 0 bytes",
    ],
)
def test_error_of_a_collective_is_the_echo_of_a_lost_peer(tmp_path: Path, text: str) -> None:
    failure = noted(tmp_path, 0, RuntimeError(text))
    assert failure.consequence
    assert failure.exit_code == RankLost.exit_code


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("NCCL"), DataError("Broken pipe")])
def test_other_errors_are_causes(error: BaseException) -> None:
    assert not is_lost_peer(error)
    assert not Failure.of(error, 0).consequence


def test_cause_is_the_oldest_failure_that_is_neither_echo_nor_preemption(tmp_path: Path) -> None:
    notes = [
        noted(tmp_path, rank, error)
        for rank, error in enumerate((ECHO, Preempted("Saved."), Interrupted("Saved."), DataError("x"), DataError("y")))
    ]
    assert first_cause(notes) == notes[3]
    assert first_preemption(notes) == notes[1]
    assert failures(tmp_path) == notes, "oldest first"
    assert first_cause(notes[:3]) is None
    assert first_preemption(notes[:1]) is None


def test_whatever_ends_the_block_is_noted_and_passes(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), failure_noted(tmp_path, 2):
        raise KeyboardInterrupt
    [failure] = failures(tmp_path)
    assert (failure.rank, failure.message) == (2, "KeyboardInterrupt: ")


def test_block_that_ends_well_leaves_the_note_blank(tmp_path: Path) -> None:
    with failure_noted(tmp_path, 2):
        pass
    assert note_path(tmp_path, 2).read_bytes().strip() == b""
