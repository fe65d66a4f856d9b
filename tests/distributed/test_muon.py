"""Muon at every ZeRO stage is Muon at stage 0, also where the number of ranks changes on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.distributed.job import Job
from pipeline.distributed.launch_local import run_local_ranks
from pipeline.errors import Preempted, RankLost
from pipeline.training.metrics import read_metrics

STEPS = 50
MakeJob = Callable[..., Job]


def losses(folder: Path) -> list[float]:
    return [line["train_nats_per_token"] for line in read_metrics(folder) if "seconds" in line]


def muon_job(job_in: MakeJob, folder: Path, zero: int) -> Job:
    return job_in(folder, "pretrain", optimizer="muon", zero=zero, tokens=128 * STEPS, save_every=10)


@pytest.fixture(scope="module")
def at_stage_0(job_in: MakeJob, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[float]]:
    """The losses of one rank without ZeRO."""
    job = muon_job(job_in, tmp_path_factory.mktemp("zero-0"), 0)
    run_local_ranks(job, 1)
    yield losses(Path(job.folder))


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("zero", [1, 2, 3])
def test_every_step_is_that_of_stage_0(
    job_in: MakeJob, at_stage_0: list[float], tmp_path: Path, zero: int, ranks: int
) -> None:
    run_local_ranks(muon_job(job_in, tmp_path, zero), ranks)
    assert len(at_stage_0) == STEPS
    assert losses(tmp_path) == pytest.approx(at_stage_0, rel=1e-5)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_two_then_four_then_one_then_two_ranks_train_as_if_nothing_had_happened(
    job_in: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zero: int, optimizer: str
) -> None:
    changes = {"optimizer": optimizer, "zero": zero, "tokens": 128 * STEPS, "save_every": 10}
    straight, changing = (job_in(tmp_path / name, "pretrain", **changes) for name in ("straight", "changing"))
    run_local_ranks(straight, 2)
    for ranks, fault, ended in [
        (2, "step:1:13:terminate", Preempted),  # saved at step 15 or so
        (4, "step:2:27:kill", RankLost),  # goes on from step 20
        (1, "step:0:36:terminate", Preempted),
    ]:
        monkeypatch.setenv("FOLIO_FAULT", fault)
        with pytest.raises(ended):
            run_local_ranks(changing, ranks)
    monkeypatch.delenv("FOLIO_FAULT")
    run_local_ranks(changing, 2)
    assert losses(Path(changing.folder)) == pytest.approx(losses(Path(straight.folder)), rel=1e-5)
