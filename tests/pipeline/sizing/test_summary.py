"""The five lines that `folio init` prints."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.config.schema import Config
from pipeline.sizing.model_sizes import CandidateModel
from pipeline.sizing.recipe import Wish
from pipeline.sizing.summary import summary
from tests.pipeline.sizing.conftest import chosen

Forecast = Callable[[Config, CandidateModel], float]


def test_five_lines_say_what_was_chosen_and_what_comes_next(wish: Callable[..., Wish], seconds_of: Forecast) -> None:
    asked = wish(minutes=30, corpus_bytes=200e6)
    lines = summary(chosen(asked, seconds_of), asked, "mine.yaml")
    assert len(lines) == 5
    assert lines[0] == "text      target 1.1 MB, corpus 200.0 MB"
    assert lines[3].startswith("time      about 30 min of 30 minutes on 2 ranks")
    assert lines[4] == "wrote mine.yaml; next: folio run mine.yaml"


def test_a_run_that_has_used_up_its_text_says_what_would_use_the_time(
    wish: Callable[..., Wish], seconds_of: Forecast
) -> None:
    asked = wish(minutes=60, target_bytes=40_000, corpus_bytes=14_000)
    assert "more time needs more text (--corpus)" in summary(chosen(asked, seconds_of), asked, "mine.yaml")[3]


def test_too_few_minutes_are_said_to_be_too_few(wish: Callable[..., Wish]) -> None:
    asked = wish(minutes=1)
    lines = summary(chosen(asked, lambda config, size: 500.0), asked, "mine.yaml")
    assert "so give it more" in lines[3]


def test_a_corpus_of_unknown_size_is_called_that(wish: Callable[..., Wish], seconds_of: Forecast) -> None:
    asked = wish(corpus_bytes=float("inf"))
    assert summary(chosen(asked, seconds_of), asked, "mine.yaml")[0].endswith("corpus of unknown size")
