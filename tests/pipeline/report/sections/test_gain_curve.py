from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.evaluation.bits_per_byte import BitsPerByte
from pipeline.evaluation.intervals import Losses
from pipeline.report.sections.gain_curve import law_section

TOKENS = np.array([1e6, 2e6, 4e6, 8e6, 16e6, 32e6])


def test_curve_has_the_branches_and_the_whole_pretraining(whole: Any) -> None:
    report = whole.report
    points = report.curve.points
    assert [point.tokens for point in points] == [64, 128, 256, 640, 1280]
    assert [point.learning_rate for point in points] == [2e-3] * 5
    assert points[-1].zero_shot.mean == report.arms.zero_shot.val_bits_per_byte.mean
    assert points[-1].finetune.mean == report.arms.finetune.val_bits_per_byte.per_seed[0]
    scratch = report.arms.scratch.val_bits_per_byte.mean
    for point in points:
        low, high = point.finetune.ci95
        assert low < point.finetune.mean < high
        assert point.gain.mean == pytest.approx(scratch - point.finetune.mean, abs=2e-5)
    assert points[1].flops / points[1].tokens < points[0].flops / points[0].tokens, "finetuning counts too"


def test_curve_ends_with_the_next_doubling(whole: Any) -> None:
    ahead = whole.report.curve.law.next_doubling
    assert ahead.tokens == 2560
    low, high = ahead.finetune.ci95
    assert low <= ahead.finetune.mean <= high
    assert ahead.saves.mean >= 0


def test_a_run_without_branches_has_no_curve(written: Any) -> None:
    assert written.report.curve is None


def law_losses(floor: float, scale: float, exponent: float) -> np.ndarray:
    return floor + scale * (TOKENS / TOKENS[-1]) ** -exponent


def sides(means: np.ndarray, rng: np.random.Generator, seed_deviation: float) -> list[Losses]:
    """Losses around these means on one text of sixty windows that all points find hard in the same places."""
    text = 0.3 * rng.normal(size=60)
    moved = means + seed_deviation * rng.normal(size=len(means))
    return [Losses((mean + text - text.mean())[None] * 10, np.full(60, 10)) for mean in moved]


def test_interval_of_the_next_doubling_covers_it_as_often_as_it_claims() -> None:
    rng = np.random.default_rng(0)
    truth = 2.0 + 0.5 * 2**-0.3
    covered = []
    for number in range(60):
        found = sides(law_losses(2.0, 0.5, 0.3), rng, seed_deviation=0.01)
        section = law_section(TOKENS, found, 0.01, BitsPerByte(1.0, resamples=100, seed=number))
        assert section is not None
        low, high = section.next_doubling.finetune.ci95
        covered.append(low <= truth <= high)
    assert np.mean(covered) >= 0.9


def test_three_points_make_no_law() -> None:
    found = sides(np.array([3.0, 2.5, 2.2]), np.random.default_rng(0), 0.0)
    assert law_section(TOKENS[:3], found, 0.0, BitsPerByte(1.0, resamples=10, seed=0)) is None
