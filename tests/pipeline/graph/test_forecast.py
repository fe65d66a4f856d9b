"""What a training needs, by hand: bytes by ZeRO stage, tokens over all trials, the size of local sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpt.counts import num_parameters
from gpt.shape import GPTShape
from pipeline.config.schema import Config
from pipeline.config.text_sections import TokenizerSection
from pipeline.config.training_sections import PretrainSection
from pipeline.graph import forecast

SHAPE = GPTShape(vocab_size=100, layers=2, width=8, heads=2, context=16)


def config(**sections: Any) -> Config:
    return Config.model_validate({"name": "x", **sections})


@pytest.mark.parametrize(
    ("dtype", "weight_bytes", "gradient_bytes", "optimizer_bytes"),
    [
        ("fp32", 4, 4, 8),  # Adam's two moments in fp32
        ("bf16", 2, 2, 12),  # and the fp32 copy of the weights
    ],
)
def test_each_zero_stage_shards_what_the_paper_says(
    dtype: str, weight_bytes: int, gradient_bytes: int, optimizer_bytes: int
) -> None:
    section = PretrainSection.model_validate({"micro_batch": 1, "dtype": dtype})
    none, optimizer, gradients, weights = (forecast.memory_bytes(SHAPE, section, zero, 4) for zero in range(4))
    sharded = num_parameters(SHAPE) * 3 // 4  # three of four ranks' shares are elsewhere
    assert none - optimizer == sharded * optimizer_bytes
    assert optimizer - gradients == sharded * gradient_bytes
    assert gradients - weights == sharded * weight_bytes


def test_activations_grow_with_the_micro_batch_and_the_logits() -> None:
    one, two = (forecast.memory_bytes(SHAPE, PretrainSection(micro_batch=number), 0, 1) for number in (1, 2))
    assert two - one == 16 * 4 * (2 * 15 * 8 + 2 * 100)


def test_an_arm_trains_its_grid_and_then_the_best_rate_on_the_other_seeds() -> None:
    arm = {"learning_rates": [1e-3, 2e-3, 4e-3], "seeds": [1, 2], "max_steps": 10, "batch_tokens": 64}
    need = forecast.training_need("scratch", config(scratch=arm), SHAPE, ranks=1)
    assert need.tokens == 4 * 10 * 64


def test_a_branch_adds_its_own_decay_to_pretraining() -> None:
    pretrain = {"tokens": 6400, "batch_tokens": 64, "decay": 0.25, "branch_at": [40]}
    need = forecast.training_need("pretrain", config(pretrain=pretrain), SHAPE, ranks=1)
    assert need.tokens == 6400 + 10 * 64


def test_local_sources_bound_the_corpus_and_a_remote_one_leaves_it_unknown(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"x" * 1000)
    (tmp_path / "b.jsonl.zst").write_bytes(b"x" * 100)
    local = {"path": str(tmp_path / "*")}
    assert forecast.corpus_bytes(config(corpus={"sources": [local]})) == 1370
    assert forecast.corpus_bytes(config(corpus={"sources": [{**local, "max_bytes": 500}]})) == 500
    assert forecast.corpus_bytes(config(corpus={"sources": [local, {"url": "https://x/y.txt"}]})) is None
    assert forecast.corpus_bytes(config(corpus={"sources": [{"hub": "a/b"}], "max_bytes": "2kB"})) == 2000


def test_the_vocabulary_before_it_is_made() -> None:
    assert forecast.vocabulary(TokenizerSection(vocab_size=500)) == 500
    assert forecast.vocabulary(TokenizerSection(kind="char")) == forecast.ENGLISH_CHARACTERS


def test_bf16_without_units_is_forecast_from_fp32_instead_of_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "has_bf16_units", lambda device: False)
    monkeypatch.setattr(forecast, "fastest", lambda once, seconds: 2.0)
    forecast.flops_per_second.cache_clear()
    emulated, wide = (forecast.flops_per_second(SHAPE, dtype, 1) for dtype in ("bf16", "fp32"))
    forecast.flops_per_second.cache_clear()
    assert emulated == wide / forecast.EMULATION


def test_the_fastest_of_at_least_two_calls_counts() -> None:
    calls: list[int] = []
    assert forecast.fastest(lambda: calls.append(1), seconds=0) >= 0
    assert len(calls) == 2
