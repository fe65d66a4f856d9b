"""A rank's process before torch is there; `tests/faults/test_first_seconds.py` has what a launcher makes of its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.distributed.job import Job

START = [sys.executable, "-m", "pipeline.distributed.start_rank"]


def ended(job: Job, torch: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """The process after it got this text for torch."""
    folder = Path(job.folder) / "first"
    folder.mkdir()
    (folder / "torch.py").write_text(torch)
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{Path.cwd()}", "RANK": "1"}
    command = [*START, str(job.path)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False, **settings)  # type: ignore[call-overload, no-any-return]


def test_output_before_torch_is_there_goes_to_the_log(job: Job) -> None:
    done = ended(job, "import os\nprint('loading', flush=True)\nos.write(2, b'warning')\nos._exit(7)")
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")
    assert (job.logs / "rank-1.log").read_text() == "loading\nwarning"


def test_torch_that_cannot_be_loaded_is_noted_as_a_fault_of_the_installation(job: Job) -> None:
    done = ended(job, "raise OSError('libc10.so: cannot open shared object file')")
    assert done.returncode == 5
    note = json.loads((job.logs / "rank-1.error.json").read_bytes())
    assert "could not load its program: OSError: libc10.so: cannot open" in note["message"]
    assert str(job.logs / "rank-1.log") in note["remedy"]
    assert "Traceback" in (job.logs / "rank-1.log").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_stop_signal_before_torch_is_there_ends_the_process_by_itself(job: Job, number: signal.Signals) -> None:
    done = ended(job, f"import os, time\nos.kill(os.getpid(), {int(number)})\ntime.sleep(60)")
    assert (done.returncode, done.stdout, done.stderr) == (-number, "", "")
    assert (job.logs / "rank-1.log").read_text() == ""


def test_stop_signal_that_the_launcher_held_back_is_delivered(job: Job) -> None:
    def interrupted_already() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        os.kill(os.getpid(), signal.SIGINT)

    done = ended(job, "import time\ntime.sleep(60)", preexec_fn=interrupted_already)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
