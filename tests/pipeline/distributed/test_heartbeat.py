"""A rank's sign of life."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.distributed.heartbeat import Heartbeat, beats


def test_last_beat_is_what_others_read(tmp_path: Path) -> None:
    heartbeat = Heartbeat()
    heartbeat.start(tmp_path, 3, lambda: None)
    for step in (99_999, 7):  # shorter than the one before it
        heartbeat.beat(step)
    beat = beats(tmp_path)[3]
    assert (beat.step, beat.pid) == (7, os.getpid())
    assert beat.place.endswith("at step 7")


def test_rank_before_its_first_step_is_known_already(tmp_path: Path) -> None:
    Heartbeat().start(tmp_path, 0, lambda: None)
    assert beats(tmp_path)[0].place.endswith("before its first step")


def test_second_step_tells_once_that_training_is_warm(tmp_path: Path) -> None:
    warmed_up = []
    heartbeat = Heartbeat()
    heartbeat.start(tmp_path, 0, lambda: warmed_up.append(heartbeat.step))
    for step in (40, 41, 42):
        heartbeat.beat(step)
    assert warmed_up == [41]


def test_heartbeat_that_was_not_started_writes_nothing(tmp_path: Path) -> None:
    Heartbeat().beat(1)
    assert beats(tmp_path) == {}
