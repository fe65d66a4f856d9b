"""What the operator is told: counts only if rank 0 left them, otherwise the cause and never its echoes."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping

import pytest

from pipeline.distributed.exit_status import RankExits, StopSignals, counts_or_error, is_failure
from pipeline.distributed.failures import Failure, reserve_note
from pipeline.distributed.heartbeat import Heartbeat
from pipeline.distributed.job import Job
from pipeline.distributed.rank_log import log_path
from pipeline.errors import DataError, FolioError, Interrupted, Preempted, RankLost

ECHO = RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:4242")


def end_of(
    job: Job, notes: Mapping[int, BaseException], signals: StopSignals | None = None, **end: Mapping[int, int]
) -> object:
    """The counts or error after ranks left these notes and ended like this."""
    for rank, error in notes.items():
        reserve_note(job.logs, rank)
        Failure.of(error, rank).write(job.logs)
    exits = RankExits(end.get("codes", {}), {rank: bool(halted) for rank, halted in end.get("halted", {}).items()})
    return counts_or_error(job, exits, signals or StopSignals())


def test_counts_are_what_rank_0_left(job: Job) -> None:
    job.outcome_file.write_text(json.dumps({"steps": 3}))
    assert end_of(job, {}, codes={0: 0, 1: 0}) == {"steps": 3}


def test_exit_codes_alone_are_not_success(job: Job) -> None:
    with pytest.raises(RankLost, match="without a result"):
        end_of(job, {}, codes={0: 0, 1: 0})


def test_refusal_beats_the_echoes_that_came_before_it(job: Job) -> None:
    with pytest.raises(DataError, match=r"^Shard x is damaged\. Restore it\.$"):
        end_of(job, {0: ECHO, 1: DataError("Shard x is damaged.", remedy="Restore it.")}, codes={0: 6, 1: 3})


def test_bug_is_reported_with_the_place_of_its_traceback(job: Job) -> None:
    with pytest.raises(FolioError, match=r"ZeroDivisionError: oops.*rank-1\.error\.json") as raised:
        end_of(job, {0: ECHO, 1: ZeroDivisionError("oops")}, codes={0: 6, 1: 1})
    assert raised.value.exit_code == 1
    assert "ZeroDivisionError" in json.loads((job.logs / "rank-1.error.json").read_text())["traceback"]


@pytest.mark.parametrize(
    ("code", "cause"), [(-signal.SIGKILL, "out of memory"), (-signal.SIGSEGV, "SIGSEGV"), (17, "exit code 17")]
)
def test_rank_that_died_without_a_note_is_named_with_its_step(job: Job, code: int, cause: str) -> None:
    heartbeat = Heartbeat()
    heartbeat.start(job.logs, 1, lambda: None)
    heartbeat.beat(12)
    log_path(job.logs, 1).write_text("step 11\nlast words\n")
    with pytest.raises(RankLost, match=f'Lost rank 1 on .*, at step 12: .*{cause}.*rank-1.log, which ends with "last'):
        end_of(job, {0: ECHO}, codes={0: 6, 1: code})


def test_rank_that_stopped_answering_is_named(job: Job) -> None:
    heartbeat = Heartbeat()
    heartbeat.start(job.logs, 1, lambda: None)
    heartbeat.beat(7)
    with pytest.raises(RankLost, match=r"Lost contact with rank 1 on .*, at step 7 \(halted by a signal\)"):
        end_of(job, {0: ECHO}, codes={0: 6}, halted={1: True})


def test_silent_rank_of_another_host_is_the_one_without_a_note(job: Job) -> None:
    for rank in range(3):
        Heartbeat().start(job.logs, rank, lambda: None)
    with pytest.raises(RankLost, match=r"Lost contact with rank 1 on [^;]*;"):
        end_of(job, {0: ECHO, 2: ECHO})


def test_preemption_is_reported_once_all_saved(job: Job) -> None:
    saved = Preempted("Saved at step 5.", remedy="Run again.")
    with pytest.raises(Preempted, match=r"^Saved at step 5\."):
        end_of(job, {0: saved, 1: saved}, codes={0: 75, 1: 75})


def test_rank_that_died_while_others_saved_is_lost(job: Job) -> None:
    with pytest.raises(RankLost, match="Lost rank 1"):
        end_of(job, {0: Preempted("Saved at step 5.")}, codes={0: 75, 1: -9})


def test_stop_before_the_ranks_could_listen_is_no_loss(job: Job) -> None:
    with pytest.raises(Preempted, match="stopped before it began"):
        end_of(job, {0: ECHO}, StopSignals(signal.SIGTERM), codes={0: 6, 1: -signal.SIGTERM})


def test_ranks_that_only_saw_each_other_go_say_what_they_saw(job: Job) -> None:
    with pytest.raises(RankLost, match=r"The ranks lost contact .*Connection closed by peer"):
        end_of(job, {0: ECHO, 1: ECHO}, codes={0: 6, 1: 6})


def test_interrupt_by_hand_leaves_as_interrupted(job: Job) -> None:
    saved = Preempted("Saved at step 5.")
    with pytest.raises(Interrupted, match=r"^Saved at step 5\."):
        end_of(job, {0: saved, 1: saved}, StopSignals(signal.SIGINT), codes={0: 75, 1: 75})


def test_stop_that_came_as_training_ended_still_stops_the_run(job: Job) -> None:
    job.outcome_file.write_text("{}")
    with pytest.raises(Preempted):
        end_of(job, {}, StopSignals(signal.SIGTERM), codes={0: 0, 1: 0})


def test_operator_who_insisted_reads_that_and_no_cause(job: Job) -> None:
    signals = StopSignals(signal.SIGTERM, 1.0, insisted=True)
    with pytest.raises(Preempted, match="ended at once; the last checkpoint stands"):
        end_of(job, {1: DataError("Shard x is damaged.")}, signals, codes={0: -9, 1: 3})


@pytest.mark.parametrize(("code", "expected"), [(0, False), (75, False), (1, True), (6, True), (-9, True), (130, True)])
def test_only_success_and_a_saved_preemption_are_not_failures(code: int, expected: bool) -> None:
    assert is_failure(code) == expected
