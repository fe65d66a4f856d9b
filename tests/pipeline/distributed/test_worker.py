"""One rank, in a process of its own; what happens around several is in `tests/faults/test_ranks.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.config.schema import LaunchSection
from pipeline.distributed.job import Job
from pipeline.distributed.worker import _memory_faults, set_up_process
from pipeline.distributed.world import World
from pipeline.errors import EnvironmentFault

ENTRY_POINTS = """
import sys
from pipeline.errors import DataError

def train(job, world, progress):
    print("said by Python")
    sys.stderr.write("for the operator\\n")
    return {"steps": 3, "rank": world.rank}

def refuse(job, world, progress):
    raise DataError("Shard x is damaged.", remedy="Restore it.")
"""


def ended(job: Job, entry_point: str) -> subprocess.CompletedProcess[str]:
    """The rank's process after it did the job with a function of ENTRY_POINTS."""
    folder = Path(job.folder)
    (folder / "entry_points.py").write_text(ENTRY_POINTS)
    path = replace(job, entry_point=f"entry_points:{entry_point}").write()
    return subprocess.run(
        [sys.executable, "-m", "pipeline.distributed.start_rank", path],
        env={**os.environ, "PYTHONPATH": f"{folder}:{Path.cwd()}", "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_rank_0_leaves_its_counts_with_the_ranks_and_their_memory(job: Job) -> None:
    done = ended(job, "train")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "for the operator\n")
    outcome = json.loads(job.outcome_file.read_bytes())
    assert outcome.pop("peak_memory_bytes") > 50_000_000
    assert outcome == {"steps": 3, "rank": 0, "world_size": 1}
    assert "said by Python" in (job.logs / "rank-0.log").read_text()
    assert (job.logs / "rank-0.error.json").read_bytes().strip() == b""


def test_refusal_is_noted_and_is_the_exit_code(job: Job) -> None:
    done = ended(job, "refuse")
    assert done.returncode == 3
    note = json.loads((job.logs / "rank-0.error.json").read_bytes())
    assert (note["message"], note["remedy"], note["consequence"]) == ("Shard x is damaged.", "Restore it.", False)
    assert "DataError" in (job.logs / "rank-0.log").read_text()
    assert not job.outcome_file.exists()


@pytest.mark.parametrize(
    ("launch", "environment", "expected"),
    [
        (LaunchSection(threads=3), {"OMP_NUM_THREADS": "5"}, 3),
        (LaunchSection(), {"OMP_NUM_THREADS": "5"}, 5),
        (LaunchSection(), {}, 4),
    ],
)
def test_threads_are_the_configs_then_the_environments_then_a_share_of_the_cores(
    monkeypatch: pytest.MonkeyPatch, launch: LaunchSection, environment: Mapping[str, str], expected: int
) -> None:
    set_to: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    monkeypatch.setattr("pipeline.distributed.worker.keep_freed_memory", lambda: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    set_up_process(launch, World(world_size=4, local_world_size=2))
    assert set_to == [expected]


def test_model_that_does_not_fit_is_refused_with_what_to_change() -> None:
    with pytest.raises(EnvironmentFault) as refused, _memory_faults("scratch"):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nSee the documentation.")
    assert str(refused.value) == (
        "scratch does not fit in memory: CUDA out of memory. Tried to allocate 2 GiB. "
        "Lower scratch.micro_batch, raise scratch.zero, or use more ranks."
    )
