"""Jobs for the rig, and a launcher process that a test can kill."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.config.schema import LaunchSection
from pipeline.distributed.heartbeat import beats
from pipeline.distributed.job import Job

RIG = Path(__file__).with_name("rig.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{RIG.parent}:{Path.cwd()}", "OMP_NUM_THREADS": "1"}


class Launched:
    """A launcher and the ranks it started."""

    def __init__(self, job: Job, before: Sequence[str] = (), **environment: str) -> None:
        self.job = job
        command, pipe = [*before, sys.executable, str(RIG), str(job.path)], subprocess.PIPE
        self.process = subprocess.Popen(
            command, env={**ENVIRONMENT, **environment}, stdout=pipe, stderr=pipe, text=True
        )

    def ranks(self) -> list[psutil.Process]:
        return [psutil.Process(beat.pid) for _, beat in sorted(beats(self.job.logs).items())]

    def wait_for_step(self, step: int, ranks: int = 2, seconds: float = 240) -> None:
        """Return once every rank reached `step`."""
        deadline = time.monotonic() + seconds
        while True:
            steps = [beat.step for beat in beats(self.job.logs).values()]
            if len(steps) == ranks and all(at is not None and at >= step for at in steps):
                return
            assert time.monotonic() < deadline, f"after {seconds} s the ranks are at {steps}"
            time.sleep(0.02)

    def end(self, seconds: float = 240) -> tuple[int, str]:
        """Exit code, and what the operator reads on stderr."""
        said = self.process.communicate(timeout=seconds)[1]
        return self.process.returncode, said.strip()


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., Job]:
    """make_job(steps, faults, folder, **launch settings)"""

    def make(steps: int = 3000, faults: dict[str, str] | None = None, folder: Path = tmp_path, **launch: Any) -> Job:
        settings = {"ranks": 2, "startup_seconds": 60, "timeout_seconds": 20, "threads": 1, **launch}
        job = Job(
            stage="pretrain",
            config_slice={"steps": steps, "faults": faults or {}},
            inputs={},
            fingerprints={},
            folder=str(folder),
            launch=LaunchSection(**settings),
            entry_point="rig:train_stage",
        )
        job.write()
        return job

    return make


@pytest.fixture
def launched() -> Iterator[Callable[..., Launched]]:
    """launched(job, before, **environment): starts the rig; nothing of it survives the test."""
    started: list[Launched] = []

    def start(job: Job, before: Sequence[str] = (), **environment: str) -> Launched:
        started.append(Launched(job, before, **environment))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


@pytest.fixture
def launch(make_job: Callable[..., Job], launched: Callable[..., Launched]) -> Callable[..., Launched]:
    """launch(steps, faults, **launch settings): the rig as an operator starts it."""
    return lambda **job: launched(make_job(**job))
