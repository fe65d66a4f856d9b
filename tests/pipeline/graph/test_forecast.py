"""What a training needs, by hand: bytes by ZeRO stage, tokens over all trials; and how this machine is timed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from gpt.counts import flops_per_token, num_hidden_parameters, num_parameters
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
    # In fp32 the copy that stage 1 updates comes on top: a share of it on each rank.
    copy = num_parameters(SHAPE) // 4 * 4 if dtype == "fp32" else 0
    assert none - optimizer == sharded * optimizer_bytes - copy
    assert optimizer - gradients == sharded * gradient_bytes
    assert gradients - weights == sharded * weight_bytes


@pytest.mark.parametrize("zero", range(4))
def test_muon_keeps_one_moment_of_its_matrices(zero: int) -> None:
    adamw, muon = (PretrainSection.model_validate({"optimizer": name}) for name in ("adamw", "muon"))
    saved = forecast.memory_bytes(SHAPE, adamw, zero, 2) - forecast.memory_bytes(SHAPE, muon, zero, 2)
    assert saved == 4 * num_hidden_parameters(SHAPE) // (2 if zero else 1)


def test_a_checkpoint_takes_a_copy_of_the_rank_s_state_and_of_all_weights() -> None:
    parameters = num_parameters(SHAPE)
    sizes = [forecast.copy_bytes(SHAPE, PretrainSection.model_validate({"zero": zero}), 2) for zero in (0, 1, 3)]
    # Weights and two moments; weights, half of the moments and of the copy; half of all. And the weights once more.
    assert sizes == [parameters * (12 + 4), parameters * (4 + 6 + 4), parameters * (2 + 6 + 4)]


def test_activations_grow_with_the_micro_batch_and_the_logits() -> None:
    one, two = (forecast.memory_bytes(SHAPE, PretrainSection(micro_batch=number), 0, 1) for number in (1, 2))
    assert two - one == 16 * 4 * (2 * 15 * 8 + 2 * 100)


@pytest.mark.parametrize(
    ("refit", "steps"),
    [
        (True, 3 * 170 + 2 * 180),  # as many epochs of 90 % of the text as 170 steps are of 85 %
        (False, 4 * 170),  # the best rate on the other seed
    ],
)
def test_an_arm_trains_its_grid_and_then_what_is_reported_on_every_seed(refit: bool, steps: int) -> None:
    arm = {"learning_rates": [1e-3, 2e-3, 4e-3], "seeds": [1, 2], "max_steps": 170, "batch_tokens": 64, "refit": refit}
    need = forecast.training_need("scratch", config(scratch=arm), SHAPE, ranks=1)
    assert need.tokens == steps * 64


def test_a_branch_adds_its_own_decay_to_pretraining() -> None:
    pretrain = {"tokens": 6400, "batch_tokens": 64, "decay": 0.25, "branch_at": [40]}
    need = forecast.training_need("pretrain", config(pretrain=pretrain), SHAPE, ranks=1)
    assert need.tokens == 6400 + 10 * 64


def test_each_branch_is_finetuned_with_the_whole_grid() -> None:
    grids = {"learning_rates": [1e-4, 2e-4], "seeds": [1, 2, 3], "max_steps": 17, "batch_tokens": 64}
    branched = config(
        pretrain={"tokens": 6400, "batch_tokens": 64, "branch_at": [40, 60]}, finetune=grids, scratch=grids
    )
    finetune, scratch = (
        forecast.steps_of_trainings(stage, getattr(branched, stage), branched) for stage in ("finetune", "scratch")
    )
    assert finetune == ((17,) * (2 + 4), (18,) * (3 + 2)), "each branch is refitted on one seed"
    assert scratch == ((17,) * 2, (18,) * 3)


def test_the_vocabulary_before_it_is_made() -> None:
    assert forecast.vocabulary(TokenizerSection(vocab_size=500)) == 500
    assert forecast.vocabulary(TokenizerSection(kind="char")) == forecast.ENGLISH_CHARACTERS


def test_bf16_without_units_is_forecast_from_fp32_instead_of_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "has_bf16_units", lambda device: False)
    monkeypatch.setattr(forecast, "median_seconds", lambda *arguments: [2.0])
    forecast.flops_per_second.cache_clear()
    emulated, wide = (forecast.flops_per_second(SHAPE, dtype, 1, "cpu") for dtype in ("bf16", "fp32"))
    forecast.flops_per_second.cache_clear()
    assert emulated == wide / forecast.EMULATION


@pytest.mark.parametrize(
    ("shape", "samples"),
    [
        (GPTShape(vocab_size=50_257, layers=12, width=768, heads=12, context=1024, dropout=0.1), 32),
        (GPTShape(vocab_size=128_000, layers=32, width=1024, heads=8, context=8192), 1),
        (GPTShape(vocab_size=4096, layers=4, width=128, heads=4, context=256), 64),
    ],
)
def test_whatever_the_model_no_more_is_timed_than_takes_a_moment(shape: GPTShape, samples: int) -> None:
    timed, timed_samples = forecast.affordable(shape, samples)
    assert flops_per_token(timed) * timed.context * timed_samples <= 1.01 * forecast.TIMED_FLOPS
    assert num_parameters(timed) < 30_000_000
    small = forecast.affordable(SHAPE, 8)
    assert small == (SHAPE, 8), "a small model is timed as it is"


def test_a_first_call_and_at_least_two_that_count_by_all_threads() -> None:
    calls: list[int] = []
    assert len(forecast.median_seconds([[lambda: calls.append(1)], [lambda: calls.append(2)]], "cpu", 0.0)) == 1
    assert sorted(calls) == [1, 1, 1, 2, 2, 2]


def test_the_median_of_the_calls_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    # When to end, then calls of 9, 2 and 3 seconds, each followed by a look at the clock but for the first two.
    readings = iter([0.0, 0.0, 9.0, 9.0, 11.0, 11.0, 11.0, 14.0, 14.0])
    monkeypatch.setattr(forecast.time, "perf_counter", lambda: next(readings))
    assert forecast.median_seconds([[lambda: None]], "cuda", 12.0) == [3.0]


def test_models_that_are_compared_are_timed_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([0.0, *[0.0, 1.0, 1.0, 4.0], *[4.0, 6.0, 6.0, 10.0]])  # two turns of a and b
    monkeypatch.setattr(forecast.time, "perf_counter", lambda: next(readings, 99.0))
    calls: list[str] = []
    assert forecast.median_seconds([[lambda: calls.append("a"), lambda: calls.append("b")]], "cuda", 5.0) == [1.5, 3.5]
    assert "".join(calls) == "ababab"


@pytest.mark.parametrize(
    ("ranks", "at_once", "threads"), [(1, 1, 6), (2, 2, 3), (4, 4, 1), (6, 6, 1), (64, 6, 1)], ids=str
)
def test_cores_are_timed_as_that_many_ranks_would_use_them(
    monkeypatch: pytest.MonkeyPatch, ranks: int, at_once: int, threads: int
) -> None:
    seen: list[tuple[int, int]] = []

    def median_seconds(calls: Sequence[Sequence[Callable[[], None]]], device: str, seconds: float) -> list[float]:
        seen.append((len(calls), torch.get_num_threads()))
        return [2.0]

    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)))
    monkeypatch.setattr(forecast, "median_seconds", median_seconds)
    forecast.flops_per_second.cache_clear()
    speed = forecast.flops_per_second(SHAPE, "fp32", 3, "cpu", ranks)
    forecast.flops_per_second.cache_clear()
    assert seen == [(at_once, threads)]
    assert speed == flops_per_token(SHAPE) * 3 * SHAPE.context / (2.0 * threads), "of one core"


def test_several_models_have_the_speed_that_each_has_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    large = replace(SHAPE, width=16)
    monkeypatch.setattr(forecast, "median_seconds", lambda calls, device, seconds: [2.0, 4.0])
    speeds = forecast.speeds_in_turns([SHAPE, large], "fp32", 1, "cpu", ranks=10**6)
    assert speeds == [flops_per_token(SHAPE) * 16 / 2.0, flops_per_token(large) * 16 / 4.0]
