"""What a rank said last: in this attempt, and why rather than who noticed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.distributed.rank_log import MAX_LINE, TAIL_BYTES, last_line, log_path, opened_log


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return log_path(tmp_path, 3)


def test_last_line_is_the_last_that_says_something(log: Path) -> None:
    log.write_text("first\n  ValueError: x  \n\n  \n")
    assert last_line(log, 0.0) == "ValueError: x"


def test_words_of_an_earlier_attempt_are_nobodys(log: Path) -> None:
    log.write_text("earlier\n")
    os.utime(log, (100, 100))
    os.close(opened_log(log.parent, 3))
    assert (last_line(log, 99.0), last_line(log, 101.0)) == ("earlier", "")


@pytest.mark.parametrize("text", [None, "", "\n\n"])
def test_log_without_words_gives_none(log: Path, text: str | None) -> None:
    if text is not None:
        log.write_text(text)
    assert last_line(log, 0.0) == ""


def test_endless_line_and_bytes_of_no_text_are_shortened_and_replaced(log: Path) -> None:
    log.write_bytes(b"\xff" * (2 * TAIL_BYTES))
    assert last_line(log, 0.0) == "�" * MAX_LINE


def test_host_is_heard_and_not_the_launchers_epilogue(log: Path) -> None:
    log.write_text(
        "b: python: not found\n"
        "b: [2026-11-27 10:00:00,000] [INFO] [launch.py:319:sigkill_handler] Killing subprocess 7\n"
        "pdsh@a: b: ssh exited with exit code 127\n"
    )
    assert last_line(log, 0.0) == "b: python: not found"


def test_output_of_all_kinds_goes_to_the_log_behind_what_was_there(log: Path) -> None:
    log.write_text("earlier\n")
    script = (
        "import os, sys; from pathlib import Path; from pipeline.distributed.rank_log import redirect_output\n"
        "redirect_output(Path(sys.argv[1]), 3); print('Python', flush=True); os.write(2, b'C\\n'); os.abort()"
    )
    done = subprocess.run([sys.executable, "-c", script, log.parent], capture_output=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == (b"", b"")
    earlier, python, c, *stack = log.read_text().splitlines()
    assert (earlier, python, c) == ("earlier", "Python", "C")
    assert "Fatal Python error: Aborted" in stack
