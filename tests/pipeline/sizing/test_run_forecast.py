"""How long a run takes, by the forecast of `folio plan`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.config.schema import Config
from pipeline.graph.durations import stage_seconds
from pipeline.graph.expected_texts import ExpectedTexts
from pipeline.graph.machines import Machine, named_machine
from pipeline.sizing.model_sizes import CandidateModel
from pipeline.sizing.recipe import Wish, config_values
from pipeline.sizing.run_forecast import START_SECONDS, run_seconds, speed, timed_machine

SIZE = CandidateModel(layers=3, width=64, heads=2, context=256, vocab_size=512)
H100 = named_machine("h100x1")  # from published figures: nothing is timed


def test_a_run_takes_what_its_stages_take_and_the_start(wish: Callable[..., Wish]) -> None:
    asked = wish(ranks=1)
    config = Config.model_validate(config_values(SIZE, 10e6, asked))
    kept = config.corpus.max_bytes or 20_000_000
    texts = ExpectedTexts.of_sizes(config, {config.corpus.sources[0].name: kept}, 1_100_000)
    parts = stage_seconds(config, texts, H100, 1, SIZE.shape())
    assert len(parts) == 8
    total = sum(part for part in parts.values() if part is not None)
    assert run_seconds(asked, H100)(config, SIZE) == pytest.approx(total + START_SECONDS)


def test_more_training_takes_longer_and_a_cut_corpus_counts_as_cut(wish: Callable[..., Wish]) -> None:
    asked = wish(ranks=1, corpus_bytes=float("inf"))
    forecast = run_seconds(asked, H100)
    seconds = [forecast(Config.model_validate(config_values(SIZE, total, asked)), SIZE) for total in (1e5, 1e7, 1e9)]
    assert seconds == sorted(seconds)
    assert seconds[0] < 120 < seconds[-1]


def test_sizes_are_timed_together_for_the_wish_that_they_are_for(
    wish: Callable[..., Wish], monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[tuple[object, ...]] = []
    monkeypatch.setattr(Machine, "timed", lambda self, *arguments: timed.append(arguments) or self)
    timed_machine(H100, wish(ranks=3), [SIZE])
    assert timed == [([SIZE.shape()], "fp32", 8, 3, 1.5)]
    assert speed(H100, wish(ranks=1), SIZE) == H100.flops_per_second(SIZE.shape(), "fp32", 8, 1)
