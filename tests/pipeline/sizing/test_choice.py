"""The config that fits: it takes the minutes, and no other size of the ladder is expected to end lower."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gpt.counts import num_parameters
from pipeline.config.schema import Config
from pipeline.sizing.choice import choose
from pipeline.sizing.model_sizes import CandidateModel
from pipeline.sizing.recipe import Wish

Forecast = Callable[[Config, CandidateModel], float]


@pytest.mark.parametrize("minutes", [3, 10, 30, 600])
def test_the_run_takes_the_minutes(minutes: float, wish: Callable[..., Wish], seconds_of: Forecast) -> None:
    choice = choose(wish(minutes=minutes, corpus_bytes=1e12), seconds_of)
    assert 0.95 * 60 * minutes < choice.seconds <= 60 * minutes
    assert seconds_of(choice.config, choice.size) == choice.seconds


def test_more_time_buys_a_larger_model(wish: Callable[..., Wish], seconds_of: Forecast) -> None:
    sizes = [choose(wish(minutes=minutes, corpus_bytes=1e12), seconds_of).size for minutes in (3, 30, 300, 3000)]
    counts = [num_parameters(size.shape()) for size in sizes]
    assert counts == sorted(set(counts))


def test_a_small_corpus_ends_the_run_early_instead_of_repeating_it(
    wish: Callable[..., Wish], seconds_of: Forecast
) -> None:
    choice = choose(wish(minutes=60, target_bytes=40_000, corpus_bytes=14_000), seconds_of)
    assert choice.config.pretrain.tokens * choice.size.bytes_per_token <= 4 * 14_000
    assert choice.seconds < 0.2 * 3600


def test_a_model_too_large_for_its_text_is_never_chosen(wish: Callable[..., Wish], seconds_of: Forecast) -> None:
    choice = choose(wish(minutes=600, corpus_bytes=2e6), seconds_of)
    control = choice.config.scratch.max_steps * choice.config.scratch.batch_tokens
    assert max(choice.config.pretrain.tokens, control) >= 5 * num_parameters(choice.size.shape())


def test_too_little_time_gives_the_shortest_run(wish: Callable[..., Wish]) -> None:
    choice = choose(wish(minutes=1), lambda config, size: 500.0)
    assert choice.seconds == 500.0
    assert choice.config.pretrain.steps >= 1
