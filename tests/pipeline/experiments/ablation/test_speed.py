from __future__ import annotations

from typing import Any

import pytest

from pipeline.config.schema import Config
from pipeline.experiments.ablation.speed import TimedStep, timing_key, tokens_per_second
from pipeline.runtime.progress import Progress

MODEL = {"layers": 1, "width": 16, "heads": 2, "context": 16}


def config(model: dict[str, Any] | None = None, **scratch: Any) -> Config:
    section = {"batch_tokens": 256, "micro_batch": 4} | scratch
    tokenizer = {"kind": "char"}
    return Config.model_validate(
        {"name": "x", "tokenizer": tokenizer, "model": MODEL | (model or {}), "scratch": section}
    )


def key(config: Config) -> str:
    return timing_key(config, config.scratch)


@pytest.mark.parametrize(
    "same", [config({"zero_init": True}), config(learning_rates=[1.0]), config(max_steps=9, seeds=[4])]
)
def test_what_changes_no_arithmetic_is_timed_once(same: Config) -> None:
    assert key(same) == key(config())


@pytest.mark.parametrize(
    "other", [config({"activation": "gelu"}), config({"layers": 2}), config(micro_batch=8), config(optimizer="muon")]
)
def test_what_changes_the_arithmetic_is_timed_by_itself(other: Config) -> None:
    assert key(other) != key(config())


def test_a_step_trains_on_a_whole_batch_in_micro_batches() -> None:
    step = TimedStep(config(), config().scratch)
    assert (step.micro_batches, tuple(step.batch.shape)) == (4, (4, 17))  # 4 micro-batches of 4 samples of 16 tokens
    assert step.tokens == 256


def test_a_batch_smaller_than_a_micro_batch_is_one_micro_batch() -> None:
    small = config(batch_tokens=32)
    step = TimedStep(small, small.scratch)
    assert (step.micro_batches, step.tokens) == (1, 32)


def test_configs_with_equal_steps_have_equal_speeds() -> None:
    configs = {"baseline": config(), "zero": config({"zero_init": True}), "wide": config({"width": 64})}
    speeds = tokens_per_second(configs, "scratch", Progress("test"))
    assert speeds["baseline"] == speeds["zero"] != speeds["wide"]
    assert min(speeds.values()) > 0
