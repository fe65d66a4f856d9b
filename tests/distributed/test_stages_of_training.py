"""The training stages from job to weights, with real ranks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.distributed.job import Job
from pipeline.distributed.launch_local import run_local_ranks
from pipeline.errors import RankLost
from pipeline.runtime.files import sha256_of
from pipeline.saved_models.weights import load_model
from pipeline.training.metrics import read_metrics


@pytest.mark.parametrize("ranks", [1, 2])
def test_chain_of_training_stages_leaves_weights_and_trials(
    job_in: Callable[..., Job], tmp_path: Path, ranks: int
) -> None:
    pretrain = job_in(tmp_path / "pretrain", "pretrain")
    counts = run_local_ranks(pretrain, ranks)

    folder = Path(pretrain.folder)
    assert counts["steps"] == 8
    assert counts["tokens"] == 8 * 128
    model = load_model(folder / "model.safetensors", folder / "model.json")
    assert sum(parameter.numel() for parameter in model.parameters()) == counts["parameters"]
    assert [line["step"] for line in read_metrics(folder) if "seconds" in line] == list(range(1, 9))

    for stage in ("scratch", "finetune"):
        job = job_in(tmp_path / stage, stage, more_inputs={"pretrain": str(folder)})
        counts = run_local_ranks(job, ranks)
        trials = Path(job.folder) / "trials"
        chosen = counts["learning_rate"]
        refits = {f"refit-lr-{chosen:g}-seed-{seed}" for seed in (1, 2)}
        # As many epochs of 46 documents as the best trial had of 40.
        steps = round(counts["chosen_step"] * 46 / 40)
        assert counts["tokens"] == (2 * 8 + 2 * steps) * 128, "two rates, then both seeds with the better one"
        assert counts["tokens_per_second"] > 0
        assert {path.name for path in trials.iterdir()} == refits | {f"lr-{rate:g}-seed-1" for rate in (1e-2, 1e-3)}
        for folder_of_trial in trials.iterdir():
            trial = json.loads((folder_of_trial / "trial.json").read_bytes())
            kept = {path.name for path in folder_of_trial.iterdir()}
            if folder_of_trial.name in refits:
                assert (kept, trial["steps"], trial["curve"]) == ({"trial.json", "last.safetensors"}, steps, [])
            else:
                assert kept == {"trial.json"}
                assert [point["step"] for point in trial["curve"]] == [4, 8]


@pytest.mark.parametrize("stage", ["scratch", "finetune"])
def test_training_never_opens_the_validation_text(job_in: Callable[..., Job], tmp_path: Path, stage: str) -> None:
    pretrain = job_in(tmp_path / "pretrain", "pretrain")
    run_local_ranks(pretrain, 1)
    job = job_in(tmp_path / stage, stage, more_inputs={"pretrain": pretrain.folder})
    # Ranks that opened one would find none; what starts them is shown one in tests/pipeline/training/test_stage.py.
    assert not list(Path(job.input("shards")).glob("target/validation*"))
    assert run_local_ranks(job, 1)["trials"]


def test_trials_are_reported_where_refits_are_switched_off(job_in: Callable[..., Job], tmp_path: Path) -> None:
    job = job_in(tmp_path / "scratch", "scratch", refit=False)
    counts = run_local_ranks(job, 1)
    assert counts["tokens"] == 3 * 8 * 128, "two rates, then the better one with the second seed"
    kept = {path.parent.name for path in Path(job.folder).glob("trials/*/best.safetensors")}
    assert kept == {f"lr-{counts['learning_rate']:g}-seed-{seed}" for seed in (1, 2)}


def test_a_branch_is_the_shorter_pretraining_and_each_is_finetuned(
    job_in: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    branched = job_in(tmp_path / "branched", "pretrain", branch_at=[4, 6], keep_checkpoints=1)
    monkeypatch.setenv("FOLIO_FAULT", "save:1:6:kill")  # at the end of the second branch; the whole one saves elsewhere
    with pytest.raises(RankLost):
        run_local_ranks(branched, 2)
    monkeypatch.delenv("FOLIO_FAULT")
    counts = run_local_ranks(branched, 2)
    plain = job_in(tmp_path / "plain", "pretrain", tokens=6 * 128)  # its warmup is one step, too
    expected = run_local_ranks(plain, 2)

    folder = Path(branched.folder)
    assert [(branch["branch"], branch["tokens"]) for branch in counts["branches"]] == [
        ("step-00000004", 4 * 128),
        ("step-00000006", 6 * 128),
    ]
    assert counts["branches"][1]["val_nats_per_token"] == expected["val_nats_per_token"]
    branch = folder / "branches" / "step-00000006"
    assert sha256_of(branch / "model.safetensors") == sha256_of(Path(plain.folder) / "model.safetensors")
    assert sha256_of(folder / "model.safetensors") != sha256_of(branch / "model.safetensors")
    assert sorted(path.name for path in branch.iterdir()) == ["metrics.jsonl", "model.safetensors", "tensorboard"]

    job = job_in(tmp_path / "finetune", "finetune", more_inputs={"pretrain": str(folder)})
    tuned = run_local_ranks(job, 1)
    assert [branch["branch"] for branch in tuned["branches"]] == ["step-00000004", "step-00000006"]
    for one in tuned["branches"]:
        arm = Path(job.folder) / "branches" / one["branch"]
        assert len(one["grid"]) == 2 and [trial["seed"] for trial in one["trials"]] == [1]
        kept = arm / "trials" / f"refit-lr-{one['learning_rate']:g}-seed-1"
        assert {path.name for path in kept.iterdir()} == {"trial.json", "last.safetensors"}


def test_without_a_held_out_part_pretraining_and_its_branches_reach_their_ends(
    job_in: Callable[..., Job], tmp_path: Path
) -> None:
    evaluated = job_in(tmp_path / "evaluated", "pretrain", branch_at=[6])
    expected = run_local_ranks(evaluated, 2)
    shards = tmp_path / "shards"
    shutil.copytree(evaluated.input("shards"), shards)
    for path in (shards / "corpus").glob("validation-*.arrow"):
        path.unlink()
    alone = job_in(tmp_path / "alone", "pretrain", more_inputs={"shards": str(shards)}, branch_at=[6])
    counts = run_local_ranks(alone, 2)
    assert (expected["held_out_tokens"], counts["held_out_tokens"]) == (128, 0)
    assert (counts["val_nats_per_token"], counts["branches"][0]["val_nats_per_token"]) == (None, None)
    assert counts["branches"][0]["tokens"] == 6 * 128
    same = ("tokens", "steps", "train_nats_per_token")
    assert {name: counts[name] for name in same} == {name: expected[name] for name in same}
    weights = [sha256_of(Path(job.folder) / "model.safetensors") for job in (evaluated, alone)]
    assert weights[0] == weights[1], "evaluations change nothing of what is trained"
