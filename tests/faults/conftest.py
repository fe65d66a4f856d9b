"""Jobs for the rig, a launcher process that a test can kill, and `folio` as a shell starts it."""

from __future__ import annotations

import os
import pydoc_data.topics
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

ROOT = Path(__file__).parents[2]
FOLIO = Path(sys.executable).with_name("folio")
RIG = Path(__file__).with_name("rig.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{RIG.parent}:{Path.cwd()}", "OMP_NUM_THREADS": "1"}
CONFIG = """
name: small
target: {{path: "{folder}/target.txt"}}
corpus:
  sources: [{{name: texts, path: "{folder}/corpus/*.txt"}}]
  validation: 15%
tokenizer: {{vocab_size: 320, sample_bytes: 200KB}}
model: {{layers: 1, width: 32, heads: 2, context: 32}}
pretrain: {{tokens: 4096, batch_tokens: 1024, micro_batch: 16, learning_rate: 1e-2, evaluate_every: 10, save_every: 5,
           evaluate_tokens: 2k}}
launch: {{threads: 1, workers: 2}}
"""


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


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of seconds."""
    folder = tmp_path_factory.mktemp("run")
    text = "\n".join(text for _, text in sorted(pydoc_data.topics.topics.items()))
    (folder / "target.txt").write_text(text[:40_000])
    (folder / "corpus").mkdir()
    for number, start in enumerate(range(60_000, 260_000, 5_000)):
        (folder / "corpus" / f"{number:02d}.txt").write_text(text[start : start + 5_000])
    (folder / "small.yaml").write_text(CONFIG.format(folder=folder))
    return folder / "small.yaml"


def environment(**changes: str) -> dict[str, str]:
    """A shell's, with `folio` in the PATH."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONSAFEPATH", "PYTHONPATH")}
    return {**kept, "PATH": f"{FOLIO.parent}:{os.environ['PATH']}", "DS_ACCELERATOR": "cpu", **changes}


def started(command: str, folder: Path, **changes: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["/bin/sh", "-c", command],
        cwd=folder,
        env=environment(FOLIO_STORE=str(folder / "store"), **changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
