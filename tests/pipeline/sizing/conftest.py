"""What a user might ask for, and a machine whose speed is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gpt.counts import flops_per_token
from pipeline.config.schema import Config
from pipeline.sizing.choice import Choice, choose
from pipeline.sizing.model_sizes import CandidateModel, model_sizes
from pipeline.sizing.recipe import TextSizes, Wish

FLOPS_PER_SECOND, OVERHEAD_SECONDS = 5e10, 40.0


def chosen(wish: Wish, seconds_of: Callable[[Config, CandidateModel], float]) -> Choice:
    """The best of the whole ladder."""
    return choose(wish, model_sizes(int(min(wish.texts.corpus_bytes, 1e12))), seconds_of)


@pytest.fixture
def wish() -> Callable[..., Wish]:
    """wish(minutes=..., target_bytes=..., corpus_bytes=..., ...): a wish on two ranks."""

    def make(minutes: float = 30, target_bytes: int = 1_100_000, corpus_bytes: float = 20e6, **changes: Any) -> Wish:
        values: dict[str, Any] = {
            "name": "mine",
            "minutes": minutes,
            "ranks": 2,
            "dtype": "fp32",
            "texts": TextSizes(target_bytes, corpus_bytes),
            "target": {"path": "my.txt"},
            "sources": ({"path": "texts/*.txt"},),
        }
        return Wish(**(values | changes))

    return make


@pytest.fixture
def seconds_of() -> Callable[[Config, CandidateModel], float]:
    """The forecast of a machine of two cores, without anything but arithmetic and a fixed overhead."""

    def forecast(config: Config, size: CandidateModel) -> float:
        arms = (config.scratch, config.finetune)
        trials = [(len(arm.learning_rates) + len(arm.seeds) - 1) * arm.max_steps * arm.batch_tokens for arm in arms]
        return OVERHEAD_SECONDS + (config.pretrain.tokens + sum(trials)) * flops_per_token(size.shape()) / (
            FLOPS_PER_SECOND
        )

    return forecast
