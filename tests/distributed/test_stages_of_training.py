"""The training stages from job to weights, with real ranks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.training.job import Job
from pipeline.training.launch import run_ranks
from pipeline.training.metrics import read_metrics
from pipeline.training.weights import load_model


@pytest.mark.parametrize("ranks", [1, 2])
def test_chain_of_training_stages_leaves_weights_and_trials(
    job_in: Callable[..., Job], tmp_path: Path, ranks: int
) -> None:
    pretrain = job_in(tmp_path / "pretrain", "pretrain")
    counts = run_ranks(pretrain, ranks)

    folder = Path(pretrain.folder)
    assert counts["steps"] == 8
    assert counts["tokens"] == 8 * 128
    model = load_model(folder / "model.safetensors", folder / "model.json")
    assert sum(parameter.numel() for parameter in model.parameters()) == counts["parameters"]
    assert [line["step"] for line in read_metrics(folder) if "seconds" in line] == list(range(1, 9))

    for stage in ("scratch", "finetune"):
        job = job_in(tmp_path / stage, stage, more_inputs={"pretrain": str(folder)})
        counts = run_ranks(job, ranks)
        trials = Path(job.folder) / "trials"
        chosen = counts["learning_rate"]
        assert counts["tokens"] == 3 * 8 * 128, "two rates, then the better one with the second seed"
        assert counts["tokens_per_second"] > 0
        assert sorted(path.name for path in trials.iterdir()) == sorted(
            {f"lr-{rate:g}-seed-1" for rate in (1e-2, 1e-3)} | {f"lr-{chosen:g}-seed-2"}
        )
        for folder_of_trial in trials.iterdir():
            trial = json.loads((folder_of_trial / "trial.json").read_bytes())
            kept = {path.name for path in folder_of_trial.iterdir()}
            weights = {"best.safetensors", "last.safetensors"} if trial["learning_rate"] == chosen else set()
            assert kept == {"trial.json"} | weights
            assert [point["step"] for point in trial["curve"]] == [4, 8]
