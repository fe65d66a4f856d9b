from __future__ import annotations

from typing import Any

from pipeline.report.sections.methods import methods

PLAIN = ["Arms", "Loss", "Choice", "Refit", "Interval", "Verdict"]


def test_what_goes_beyond_the_arms_is_explained_where_the_report_has_it(written: Any, whole: Any) -> None:
    assert list(written.report.methods) == PLAIN
    assert list(whole.report.methods) == [*PLAIN, "Rivals", "Curve", "Leak"]


def test_the_interval_says_how_it_was_drawn() -> None:
    paragraph = methods(num_windows=1200, block=21, resamples=10_000)["Interval"]
    assert "resampled 10,000 times in runs of 21 neighbouring windows out of 1,200" in paragraph
