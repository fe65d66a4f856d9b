"""Whatever the ZeRO stage, the number of ranks and the interruptions: the same training."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.utils import clip_grad_norm_

from gpt.model import GPT
from pipeline.config.training_sections import PretrainSection
from pipeline.distributed.job import Job
from pipeline.distributed.launch_local import run_local_ranks
from pipeline.errors import Diverged, EnvironmentFault, RankLost
from pipeline.runtime.files import sha256_of
from pipeline.tokens.batches import Batches
from pipeline.training.checkpoint_files import checkpoints_in, read_receipt
from pipeline.training.inputs import TrainingInputs
from pipeline.training.metrics import read_metrics
from pipeline.training.optimizers import optimizer_of
from pipeline.training.reshard import convert
from pipeline.training.training_plan import BatchGeometry, TrainingPlan
from tests.distributed.bodies import of_every_variant

VARIANTS: dict[str, dict[str, Any]] = {
    **{f"zero-{zero}-fp32": {"zero": zero} for zero in (0, 1, 2, 3)},
    **{f"zero-{zero}-bf16": {"zero": zero, "dtype": "bf16"} for zero in (0, 1, 3)},
    **{f"muon-{zero}-fp32": {"optimizer": "muon", "zero": zero} for zero in (0, 1, 2, 3)},
    "muon-1-mixed": {"optimizer": "muon", "zero": 1, "dtype": "mixed"},
    **{f"muon-{zero}-bf16": {"optimizer": "muon", "zero": zero, "dtype": "bf16"} for zero in (0, 1, 3)},
}
# What a number that goes wrong does is up to the ZeRO stage and the dtype, not to the optimizer.
OF_ADAMW = [name for name in VARIANTS if name.startswith("zero")]
# In fp32 at every stage: test_muon.py, over more steps.
DIVIDED_ANEW = ["zero-1-fp32", *(name for name in VARIANTS if name.endswith("bf16"))]
STEPS = 8
MakeJob = Callable[..., Job]

pytestmark = pytest.mark.usefixtures("ranks_find_the_bodies")


@pytest.fixture(scope="module")
def straight(
    job_in: MakeJob, ranks_find_the_bodies: None, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], Path]:
    """straight(ranks): the folder in which so many ranks trained every variant without interruption, done once."""
    done: dict[int, Path] = {}

    def train(ranks: int) -> Path:
        if ranks not in done:
            job = all_variants(job_in(tmp_path_factory.mktemp(f"ranks-{ranks}"), "pretrain", keep_checkpoints=9))
            run_local_ranks(job, ranks)
            done[ranks] = Path(job.folder)
        return done[ranks]

    return train


def all_variants(job: Job, names: Iterable[str] = VARIANTS) -> Job:
    return of_every_variant(job, {name: VARIANTS[name] for name in names})


def losses(folder: Path) -> list[str]:
    """Every training loss, to the last bit."""
    return [line["train_nats_per_token"].hex() for line in read_metrics(folder) if "seconds" in line]


def numbers(hexadecimal: Sequence[str]) -> list[float]:
    return [float.fromhex(text) for text in hexadecimal]


def restart_from(finished: Path, folder: Path) -> Path:
    """Copy a finished training as it was at its first checkpoint; the folder of its checkpoints."""
    shutil.copytree(finished, folder)
    (folder / "model.safetensors").unlink()
    first, *later = checkpoints_in(folder / "checkpoints")
    for checkpoint in later:
        shutil.rmtree(checkpoint)
    return first.parent


def plain_losses(job: Job) -> list[float]:
    """The same training as one would write it in PyTorch: one process, one batch, no DeepSpeed."""
    section, given = PretrainSection.model_validate(job.config_slice["pretrain"]), TrainingInputs.of(job)
    geometry = BatchGeometry.of("pretrain", section, context=given.shape.context, world_size=1)
    plan = TrainingPlan.of(
        section, steps=section.steps, peak=section.learning_rate, seed=section.seed, geometry=geometry
    )
    batches = Batches(given.corpus(), batch_samples=geometry.batch_samples, seed=section.seed)
    model = GPT(given.shape).initialize(section.seed)
    optimizer = optimizer_of(model, section)
    nats_per_token = []
    for step in range(section.steps):
        [(inputs, targets)] = batches.of_step(step, rank=0, world_size=1, micro_batch=geometry.batch_samples)
        nats, count = model(torch.from_numpy(inputs), torch.from_numpy(targets))
        (nats / count).backward()
        clip_grad_norm_(model.parameters(), section.clip)
        for group in optimizer.param_groups:
            group["lr"] = plan.schedule.rate(step)
        optimizer.step()
        optimizer.zero_grad()
        nats_per_token.append(float(nats.detach() / count))
    return nats_per_token


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_are_those_of_a_plain_loop(
    job_in: MakeJob, straight: Callable[[int], Path], tmp_path: Path, variant: str, ranks: int
) -> None:
    optimizer = VARIANTS[variant].get("optimizer", "adamw")
    expected = plain_losses(job_in(tmp_path, "pretrain", optimizer=optimizer))
    actual = numbers(losses(straight(ranks) / variant))
    assert len(actual) == STEPS
    # The learning rate is high and the clipping active, so an error in either shows at once.
    assert actual == pytest.approx(expected, rel=1e-5 if "fp32" in variant else 2e-2)


@pytest.fixture(scope="module")
def resumed(
    job_in: MakeJob, straight: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Two ranks that went on, in new processes, from the first checkpoint of every variant."""
    job = all_variants(job_in(tmp_path_factory.mktemp("resumed"), "pretrain", keep_checkpoints=9))
    for variant in VARIANTS:
        restart_from(straight(2) / variant, Path(job.folder) / variant)
    run_local_ranks(job, 2)
    yield Path(job.folder)


@pytest.mark.parametrize("variant", VARIANTS)
def test_resumed_training_is_equal_to_the_last_bit(
    straight: Callable[[int], Path], resumed: Path, variant: str
) -> None:
    assert losses(resumed / variant) == losses(straight(2) / variant)
    for name in ("model.safetensors", "model.json"):
        assert sha256_of(resumed / variant / name) == sha256_of(straight(2) / variant / name)


def test_training_survives_ranks_that_end_while_they_save(
    job_in: MakeJob, straight: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_in(tmp_path, "pretrain")
    for fault, error, committed in [
        ("save:1:4:kill", RankLost, []),
        ("commit:0:4:kill", RankLost, []),
        ("after_commit:1:4:kill", RankLost, ["step-00000004"]),
        ("save:1:8:enospc", EnvironmentFault, ["step-00000004"]),
    ]:
        monkeypatch.setenv("FOLIO_FAULT", fault)
        with pytest.raises(error):
            run_local_ranks(job, 2)
        assert [path.name for path in checkpoints_in(tmp_path / "checkpoints")] == committed
    monkeypatch.delenv("FOLIO_FAULT")
    run_local_ranks(job, 2)
    reference = straight(2) / "zero-1-fp32"
    assert losses(tmp_path) == losses(reference)
    assert sha256_of(tmp_path / "model.safetensors") == sha256_of(reference / "model.safetensors")
    assert list((tmp_path / "checkpoints").glob("*.tmp")) == []


@pytest.mark.parametrize(("before", "after"), [(2, 1), (2, 4), (1, 2)])
def test_training_goes_on_with_another_number_of_ranks(
    job_in: MakeJob, straight: Callable[[int], Path], tmp_path: Path, before: int, after: int
) -> None:
    job = all_variants(job_in(tmp_path, "pretrain", keep_checkpoints=9), DIVIDED_ANEW)
    for variant in DIVIDED_ANEW:
        restart_from(straight(before) / variant, tmp_path / variant)
    run_local_ranks(job, after)
    for variant in DIVIDED_ANEW:
        uninterrupted, gone_on = losses(straight(before) / variant), losses(tmp_path / variant)
        assert gone_on[:4] == uninterrupted[:4], "steps that were not repeated"
        assert numbers(gone_on) == pytest.approx(numbers(uninterrupted), rel=1e-5 if "fp32" in variant else 2e-3)
        last = tmp_path / variant / "checkpoints" / "step-00000008"
        assert read_receipt(last).ranks == after


@pytest.mark.parametrize("variant", ["zero-1-fp32", "muon-3-bf16"])
def test_converted_checkpoint_is_divided_among_other_ranks_and_back_any_number_of_times(
    job_in: MakeJob, straight: Callable[[int], Path], tmp_path: Path, variant: str
) -> None:
    job = job_in(tmp_path, "pretrain", keep_checkpoints=9, **VARIANTS[variant])
    shutil.rmtree(tmp_path)
    checkpoint = restart_from(straight(2) / variant, tmp_path) / "step-00000004"
    job.write()
    for ranks in (1, 2, 1, 2):
        convert(checkpoint, ranks)
        assert read_receipt(checkpoint).ranks == ranks
        assert [path.name for path in checkpoint.parent.glob("step-*")] == [checkpoint.name], "nothing else is left"
    run_local_ranks(job, 2)
    assert losses(tmp_path) == losses(straight(2) / variant)


@pytest.mark.parametrize(
    ("action", "cause"), [("nan", "loss or gradient is not finite"), ("spike", "is a spike (above ")]
)
def test_bad_loss_of_one_rank_is_seen_by_all_and_the_step_left_out(
    job_in: MakeJob,
    straight: Callable[[int], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    action: str,
    cause: str,
) -> None:
    job = all_variants(job_in(tmp_path, "pretrain", keep_checkpoints=9), OF_ADAMW)
    reference = straight(2)  # before there is a fault
    monkeypatch.setenv("FOLIO_FAULT", f"backward:1:5:{action}")
    run_local_ranks(job, 2)
    said = capfd.readouterr().err
    assert re.search(rf"step 6: .*{re.escape(cause)}", said) and "Traceback" not in said
    for variant in OF_ADAMW:
        lines = [line for line in read_metrics(tmp_path / variant) if "seconds" in line]
        assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
        assert [line["step"] for line in lines if line.get("skipped")] == [6]
        assert len(lines[5]["documents"]) >= 8, "those of the whole batch are named"
        good = [line["train_nats_per_token"].hex() for line in lines[:5]]
        assert good == losses(reference / variant)[:5]
        # Nothing was updated, so the next step starts where this one should have.
        assert lines[6]["train_nats_per_token"] < lines[0]["train_nats_per_token"]


def test_training_that_stays_bad_ends_and_keeps_its_last_good_checkpoint(
    job_in: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLIO_FAULT", "backward:0:5:nan")
    with pytest.raises(Diverged, match=r"not finite at 1 step in a row, up to step 6\."):
        run_local_ranks(job_in(tmp_path, "pretrain", skip_limit=0), 2)
    assert [path.name for path in checkpoints_in(tmp_path / "checkpoints")] == ["step-00000004"]
