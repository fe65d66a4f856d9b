from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gpt.model import GPT, IGNORED, GPTShape
from pipeline.evaluation import scoring
from pipeline.evaluation.scoring import ArmScores, ArmWeights, score_files, score_windows
from pipeline.runtime.progress import Progress
from pipeline.tokens.scoring_windows import ScoringWindows
from pipeline.tokens.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def model() -> GPT:
    return GPT(GPTShape(vocab_size=7, layers=1, width=8, heads=2, context=4)).eval()


def test_uniform_predictions_cost_the_logarithm_of_the_vocabulary(model: GPT) -> None:
    silent = GPT(model.shape)
    for parameter in silent.parameters():
        torch.nn.init.zeros_(parameter)
    inputs = np.zeros((3, 4), np.int64)
    targets = np.array([[1, 2, 3, 4], [5, IGNORED, IGNORED, 6], [IGNORED] * 4])
    nats, counts = score_windows(silent, inputs, targets, "cpu")
    assert nats.dtype == np.float64
    assert nats == pytest.approx(np.log(7) * np.array([4, 2, 0]))
    assert counts.tolist() == [4, 2, 0]


def test_size_of_the_micro_batch_changes_nothing(model: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = np.random.default_rng(0).integers(7, size=(9, 5))
    whole, _ = score_windows(model, tokens[:, :-1], tokens[:, 1:], "cpu")
    monkeypatch.setattr(scoring, "MAX_LOGITS", 2 * 4 * 7)
    pieces, _ = score_windows(model, tokens[:, :-1], tokens[:, 1:], "cpu")
    assert pieces == pytest.approx(whole, rel=1e-6)


def test_windows_of_a_shard_count_every_token_once(finished: Any) -> None:
    shard = finished.artifacts["shards"].folder / "target" / "validation.arrow"
    sha256 = load_tokenizer(finished.artifacts["tokenizer"].folder).sha256
    text = (finished.artifacts["target"].folder / "validation.txt").read_text(encoding="utf-8")
    for stride in (None, 5):
        assert ScoringWindows.of_shard(shard, tokenizer_sha256=sha256, context=16, stride=stride).num_tokens == len(
            text
        )


def test_weights_that_are_best_and_last_are_scored_once(finished: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder: Path = finished.artifacts["pretrain"].folder
    shard = finished.artifacts["shards"].folder / "target" / "validation.arrow"
    sha256 = load_tokenizer(finished.artifacts["tokenizer"].folder).sha256
    windows = ScoringWindows.of_shard(shard, tokenizer_sha256=sha256, context=16, stride=None)
    loaded: list[Path] = []
    original = scoring.load_model
    monkeypatch.setattr(scoring, "load_model", lambda path, *rest: loaded.append(path) or original(path, *rest))
    files = (folder / "model.safetensors",)
    weights = ArmWeights(folder / "model.json", best=files, last=files)
    scores = ArmScores.of(weights, score_files(weights.files, windows, torch.device("cpu"), Progress("report")))
    assert loaded == list(files)
    assert np.array_equal(scores.best.nats, scores.last.nats)
