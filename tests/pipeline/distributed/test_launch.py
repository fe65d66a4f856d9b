"""Which ranks a job runs on, and what an attempt leaves behind."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.schema import LaunchSection
from pipeline.distributed import launch
from pipeline.distributed.job import Job
from pipeline.distributed.launch import launch_job, num_ranks
from pipeline.errors import ConfigError, RankLost

TWO_RANKS = {
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "2",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "4000",
    "DS_ACCELERATOR": "cpu",
}


@dataclass
class Ranks:
    """Ranks that somebody else started. They leave what ranks leave, and end as the test wants."""

    counts: dict[str, Any] = field(default_factory=dict)
    error: Exception | None = None
    jobs: list[Path] = field(default_factory=list)

    def run_job(self, job_file: Path) -> dict[str, Any]:
        self.jobs.append(job_file)
        job = Job.read(job_file)
        for path in (job.outcome_file, job.stop_file, job.logs / "rank-0.beat", job.logs / "rank-0.error.json"):
            path.touch()
        (job.logs / "rank-0.log").write_text("what it printed")
        if self.error is not None:
            raise self.error
        return self.counts


def set_environment(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was started instead of ranks: their number here, or the hostfile."""
    started: list[Any] = []
    monkeypatch.setattr(launch, "run_local_ranks", lambda job, ranks: started.append(ranks) or {"steps": 1})
    monkeypatch.setattr(launch, "run_on_hosts", lambda job, hostfile: started.append(hostfile) or {"steps": 1})
    return started


def test_job_runs_on_the_ranks_that_are_given(job: Job, started: list[Any]) -> None:
    ranks = Ranks({"steps": 3})
    assert launch_job(job, ranks) == {"steps": 3}
    assert ranks.jobs == [job.path]
    assert started == []


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"ranks": 3}, 3),
        ({"hostfile": "hosts"}, Path("hosts")),
        ({"hostfile": "hosts", "ranks": 3}, Path("hosts")),
        ({}, 1),
    ],
)
def test_without_them_a_hostfile_comes_before_new_ranks(
    job: Job, started: list[Any], monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], expected: object
) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    assert launch_job(replace(job, launch=LaunchSection(**settings))) == {"steps": 1}
    assert started == [expected]


def test_ranks_of_a_launcher_that_the_command_does_not_hold_are_refused(
    job: Job, started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, TWO_RANKS)
    with pytest.raises(ConfigError, match="cannot use ranks that torchrun, deepspeed or srun started"):
        launch_job(job)
    assert started == []
    assert launch_job(job, Ranks({"steps": 2})) == {"steps": 2}


def test_finished_attempt_leaves_its_logs_alone(job: Job) -> None:
    launch_job(job, Ranks())
    assert sorted(path.name for path in job.logs.iterdir()) == ["rank-0.log"]
    assert sorted(path.name for path in Path(job.folder).iterdir()) == ["job.json", "logs"]


def test_failed_attempt_stays_to_be_read_until_the_next_one_begins(job: Job) -> None:
    with pytest.raises(RankLost):
        launch_job(job, Ranks(error=RankLost("Lost rank 1.")))
    assert job.stop_file.exists()
    assert (job.logs / "rank-0.error.json").exists()

    @dataclass
    class NextAttempt(Ranks):
        def run_job(self, job_file: Path) -> dict[str, Any]:
            assert not job.stop_file.exists(), "or the new ranks would stop at once"
            assert not (job.logs / "rank-0.error.json").exists()
            return {}

    launch_job(job, NextAttempt())


def test_full_disk_is_found_before_any_rank_starts(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": launch.MIN_FREE_BYTES - 1})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    ranks = Ranks()
    with pytest.raises(OSError) as caught:
        launch_job(job, ranks)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, job.folder)
    assert ranks.jobs == []


def test_number_of_ranks_is_that_of_whoever_starts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hosts").write_text("a slots=2\nb slots=3\n")
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    assert num_ranks(LaunchSection()) == 1
    assert num_ranks(LaunchSection(ranks=4)) == 4
    assert num_ranks(LaunchSection(ranks=4, hostfile=str(tmp_path / "hosts"))) == 5
    set_environment(monkeypatch, TWO_RANKS)
    assert num_ranks(LaunchSection(ranks=4)) == 2
