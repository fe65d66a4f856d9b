"""A process ends with its parent, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")

CHILD = """
import os, sys, time
from pipeline.runtime.processes import die_with_parent
die_with_parent(int(sys.argv[1]))
print(os.getpid(), flush=True)
time.sleep(60)
"""
PARENT = """
import os, subprocess, sys
subprocess.run([sys.executable, "-c", sys.argv[1], str(os.getpid())])
"""


def test_child_ends_when_its_parent_is_killed() -> None:
    command = [sys.executable, "-c", PARENT, CHILD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path.cwd()) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        assert child.ppid() == parent.pid
        parent.kill()
        child.wait(timeout=10)


def test_child_whose_parent_is_gone_already_ends_at_once() -> None:
    """The process id is another's, as it is when the parent ended and init has taken its place."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(os.getpid() + 1)], capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"")


def test_child_may_ask_for_another_signal() -> None:
    script = CHILD.replace("die_with_parent(int(sys.argv[1]))", "die_with_parent(int(sys.argv[1]), 15)")
    done = subprocess.run(
        [sys.executable, "-c", script, str(os.getpid() + 1)], capture_output=True, timeout=30, check=False
    )
    assert done.returncode == -signal.SIGTERM
