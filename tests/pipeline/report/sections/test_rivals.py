from __future__ import annotations

import math
from typing import Any

import pytest

from pipeline.evaluation.intervals import Estimate
from pipeline.report.finished_run import FinishedRun
from pipeline.report.sections.rivals import unpaired_difference


def test_rivals_are_scored_on_their_own_windows(whole: Any) -> None:
    fewer, short = whole.report.rivals
    assert (fewer.name, short.name) == ("fewer steps", "short")
    assert fewer.changes == {"scratch.max_steps": 3}
    finetune = whole.report.arms.finetune.val_bits_per_byte.mean
    for rival in (fewer, short):
        over_it = rival.gain_bits_per_byte
        assert over_it.mean == pytest.approx(rival.val_bits_per_byte.mean - finetune, abs=1e-5)
        assert over_it.ci95[0] < over_it.mean < over_it.ci95[1]
    assert fewer.val_bits_per_byte.mean != short.val_bits_per_byte.mean


def test_a_rival_with_the_runs_context_is_paired_and_another_is_not(whole_run: FinishedRun) -> None:
    fewer, short = whole_run.rivals
    assert fewer.windows is whole_run.windows and fewer.same_windows
    assert short.windows.inputs.shape[1] == 8 and not short.same_windows
    assert short.windows.num_tokens == whole_run.windows.num_tokens, "the same text in shorter windows"


def test_unpaired_difference_joins_intervals_by_their_squares() -> None:
    difference = unpaired_difference(Estimate(2.0, 1.7, 2.3, 0.0), Estimate(1.0, 0.6, 1.4, 0.0))
    assert (difference.mean, difference.low, difference.high) == pytest.approx((1.0, 0.5, 1.5))
    assert math.isnan(difference.p_value)


def test_a_plain_report_has_no_rivals(written: Any) -> None:
    assert written.report.rivals == ()
