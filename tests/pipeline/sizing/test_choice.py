"""The config that fits: it takes the minutes, and no other size of the ladder is expected to end lower."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gpt.counts import num_parameters
from pipeline.config.schema import Config
from pipeline.sizing.choice import sizes_to_try
from pipeline.sizing.model_sizes import CandidateModel, model_sizes
from pipeline.sizing.recipe import Wish
from tests.pipeline.sizing.conftest import FLOPS_PER_SECOND, chosen

Forecast = Callable[[Config, CandidateModel], float]


@pytest.mark.parametrize("minutes", [3, 10, 30, 600])
def test_the_run_takes_the_minutes(minutes: float, wish: Callable[..., Wish], seconds_of: Forecast) -> None:
    choice = chosen(wish(minutes=minutes, corpus_bytes=1e12), seconds_of)
    assert 0.95 * 60 * minutes < choice.seconds <= 60 * minutes
    assert seconds_of(choice.config, choice.size) == choice.seconds


def test_more_time_buys_a_larger_model(wish: Callable[..., Wish], seconds_of: Forecast) -> None:
    sizes = [chosen(wish(minutes=minutes, corpus_bytes=1e12), seconds_of).size for minutes in (3, 30, 300, 3000)]
    counts = [num_parameters(size.shape()) for size in sizes]
    assert counts == sorted(set(counts))


def test_a_small_corpus_ends_the_run_early_instead_of_repeating_it(
    wish: Callable[..., Wish], seconds_of: Forecast
) -> None:
    choice = chosen(wish(minutes=60, target_bytes=40_000, corpus_bytes=14_000), seconds_of)
    assert choice.config.pretrain.tokens * choice.size.bytes_per_token <= 4 * 14_000
    assert choice.seconds < 0.2 * 3600


def test_a_model_too_large_for_its_text_is_never_chosen(wish: Callable[..., Wish], seconds_of: Forecast) -> None:
    choice = chosen(wish(minutes=600, corpus_bytes=2e6), seconds_of)
    control = choice.config.scratch.max_steps * choice.config.scratch.batch_tokens
    assert max(choice.config.pretrain.tokens, control) >= 2 * num_parameters(choice.size.shape())


def test_too_little_time_gives_the_shortest_run(wish: Callable[..., Wish]) -> None:
    choice = chosen(wish(minutes=1), lambda config, size: 500.0)
    assert choice.seconds == 500.0
    assert choice.config.pretrain.steps >= 1


@pytest.mark.parametrize("minutes", [3, 10, 30, 600])
def test_the_sizes_that_are_tried_hold_the_best_of_all(
    minutes: float, wish: Callable[..., Wish], seconds_of: Forecast
) -> None:
    asked = wish(minutes=minutes, corpus_bytes=1e12)
    # Half as fast and twice as fast as the forecast's machine: the guess need not know better.
    for speed in (0.5, 1.0, 2.0):
        sizes = sizes_to_try(asked, lambda size, speed=speed: speed * FLOPS_PER_SECOND)  # type: ignore[misc]
        assert 4 <= len(sizes) <= 7
        assert chosen(asked, seconds_of).size in sizes


def test_sizes_are_guessed_at_the_speed_of_the_size_itself(wish: Callable[..., Wish]) -> None:
    asked = wish(minutes=60, corpus_bytes=1e12)
    ladder = model_sizes(10**12)
    slow, fast = (sizes_to_try(asked, lambda size, speed=speed: speed)[0] for speed in (1e10, 1e13))  # type: ignore[misc]
    mixed = sizes_to_try(asked, lambda size: 1e10 if ladder.index(size) < 10 else 1e13)[0]
    assert ladder.index(slow) < ladder.index(fast)
    assert mixed in (slow, fast)
