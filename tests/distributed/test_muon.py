"""Muon at every ZeRO stage is Muon at stage 0, and neither it nor AdamW minds that the number of ranks changes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.training_sections import ModelSection
from pipeline.distributed.job import Job
from pipeline.distributed.launch_local import run_local_ranks
from pipeline.training.checkpoint_files import checkpoints_in, step_name
from pipeline.training.metrics import read_metrics
from tests.distributed.bodies import of_every_variant

STEPS = 50
VARIANTS: dict[str, dict[str, Any]] = {
    f"{optimizer}-{zero}": {"optimizer": optimizer, "zero": zero}
    for optimizer in ("muon", "adamw")
    for zero in (0, 1, 2, 3)
}
MakeJob = Callable[..., Job]

pytestmark = pytest.mark.usefixtures("ranks_find_the_bodies")


def job_of_all(job_in: MakeJob, folder: Path, variants: dict[str, dict[str, Any]] = VARIANTS) -> Job:
    job = job_in(folder, "pretrain", tokens=128 * STEPS, save_every=10, evaluate_every=25, keep_checkpoints=9)
    return of_every_variant(job, variants)


@pytest.fixture(scope="module")
def straight(
    job_in: MakeJob, ranks_find_the_bodies: None, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], Path]:
    """straight(ranks): the folder in which so many ranks trained every variant without interruption, done once."""
    done: dict[int, Path] = {}

    def train(ranks: int) -> Path:
        if ranks not in done:
            done[ranks] = tmp_path_factory.mktemp(f"straight-{ranks}")
            run_local_ranks(job_of_all(job_in, done[ranks]), ranks)
        return done[ranks]

    return train


@pytest.fixture(scope="module")
def changing(job_in: MakeJob, straight: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 ranks to step 10, 4 ranks to step 30, one to step 40, and two to the end."""
    folder = tmp_path_factory.mktemp("changing")
    job = job_of_all(job_in, folder)
    for variant in VARIANTS:
        shutil.copytree(straight(2) / variant, folder / variant)
    for step, ranks in ((10, 4), (30, 1), (40, 2)):
        for variant in VARIANTS:
            as_if_killed_after(step, folder / variant)
        run_local_ranks(job, ranks)
    return folder


def as_if_killed_after(step: int, folder: Path) -> None:
    """Leave the checkpoint of a step as the newest; the metrics are further, as where it is killed before the next."""
    for checkpoint in checkpoints_in(folder / "checkpoints"):
        if checkpoint.name > step_name(step):
            shutil.rmtree(checkpoint)


def losses(folder: Path) -> list[float]:
    return [line["train_nats_per_token"] for line in read_metrics(folder) if "seconds" in line]


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("zero", [1, 2, 3])
def test_every_step_of_muon_is_that_of_one_rank_at_stage_0(
    straight: Callable[[int], Path], zero: int, ranks: int
) -> None:
    expected = losses(straight(1) / "muon-0")
    assert len(expected) == STEPS
    assert losses(straight(ranks) / f"muon-{zero}") == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_then_four_then_one_then_two_ranks_train_as_if_nothing_had_happened(
    straight: Callable[[int], Path], changing: Path, variant: str
) -> None:
    uninterrupted, changed = losses(straight(2) / variant), losses(changing / variant)
    assert changed == pytest.approx(uninterrupted, rel=1e-5)
    # The seventh digit shows that other ranks did add up in another order.
    assert changed[10:40] != uninterrupted[10:40]


def test_training_goes_on_at_another_zero_stage_too(
    job_in: MakeJob, straight: Callable[[int], Path], tmp_path: Path
) -> None:
    moves = [("muon", 0, 2), ("muon", 1, 3), ("muon", 3, 0), ("adamw", 0, 1), ("adamw", 2, 3), ("adamw", 3, 1)]
    for optimizer, before, after in moves:
        shutil.copytree(straight(2) / f"{optimizer}-{before}", tmp_path / f"{optimizer}-{before}-{after}")
        as_if_killed_after(30, tmp_path / f"{optimizer}-{before}-{after}")
    variants = {f"{name}-{before}-{after}": {"optimizer": name, "zero": after} for name, before, after in moves}
    run_local_ranks(job_of_all(job_in, tmp_path, variants), 2)
    for optimizer, before, after in moves:
        uninterrupted = losses(straight(2) / f"{optimizer}-{before}")
        changed = losses(tmp_path / f"{optimizer}-{before}-{after}")
        assert changed == pytest.approx(uninterrupted, rel=1e-5)


def test_state_of_a_rank_is_its_share(job_in: MakeJob, tmp_path: Path) -> None:
    job = job_in(tmp_path, "pretrain", optimizer="muon")
    shape = ModelSection(layers=2, width=256, heads=4, context=16).model_dump(mode="json")
    job = replace(job, config_slice=job.config_slice | {"model": shape}).with_entry_point(
        "tests.distributed.bodies:state_bytes"
    )
    job.write()
    held = run_local_ranks(job, 2)
    # Master weights and momentum, on two ranks.
    assert held["1"]["optimizer"] <= 0.6 * held["0"]["optimizer"]
    assert held["2"]["optimizer"] <= 0.6 * held["0"]["optimizer"]
    # All of them and the weights: half, but for the weights below DeepSpeed's threshold, which each rank keeps whole.
    whole = 2 * held["1"]["optimizer"] + held["1"]["all"] - held["1"]["optimizer"]
    assert held["3"]["all"] <= 0.55 * whole, held
