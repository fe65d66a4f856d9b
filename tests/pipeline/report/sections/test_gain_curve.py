from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluation.bits_per_byte import BitsPerByte
from pipeline.evaluation.intervals import Losses, text_draws
from pipeline.evaluation.power_law import Law, fitted
from pipeline.report.sections.gain_curve import law_section

TOKENS = np.array([1e6, 2e6, 4e6, 8e6, 16e6, 32e6])


def law_losses(floor: float, scale: float, exponent: float) -> np.ndarray:
    return floor + scale * (TOKENS / TOKENS[-1]) ** -exponent


def sides(means: np.ndarray, rng: np.random.Generator, seed_deviation: float) -> list[Losses]:
    """Losses around these means on one text of sixty windows that all points find hard in the same places."""
    text = 0.3 * rng.normal(size=60)
    moved = means + seed_deviation * rng.normal(size=len(means))
    return [Losses((mean + text - text.mean())[None] * 10, np.full(60, 10)) for mean in moved]


def test_law_of_exact_losses_is_found_again() -> None:
    (law,) = fitted(TOKENS, law_losses(1.5, 0.4, 0.3)[None])
    assert law.exponent == pytest.approx(0.3, rel=0.03)
    assert (law.floor, law.scale) == (pytest.approx(1.5, abs=0.02), pytest.approx(0.4, abs=0.02))
    assert law.at(64e6) == pytest.approx(1.5 + 0.4 * 2**-0.3, abs=0.001)


def test_a_law_never_rises_and_its_floor_is_not_below_zero() -> None:
    rising, falling_fast = fitted(TOKENS, np.array([np.linspace(1, 2, 6), [32.0, 16, 8, 4, 2, 1]]))
    assert (rising.scale, rising.floor) == (0.0, pytest.approx(1.5))
    assert falling_fast.floor == 0.0
    assert falling_fast.exponent == pytest.approx(1.0, rel=0.03)


def test_a_law_is_evaluated_by_hand() -> None:
    assert Law(floor=1.0, scale=2.0, exponent=0.5, unit_tokens=100).at(400) == 2.0


def test_interval_of_the_next_doubling_covers_it_as_often_as_it_claims() -> None:
    rng = np.random.default_rng(0)
    truth = 2.0 + 0.5 * 2**-0.3
    covered = []
    for number in range(60):
        found = sides(law_losses(2.0, 0.5, 0.3), rng, seed_deviation=0.01)
        section = law_section(TOKENS, found, 0.01, BitsPerByte(1.0, resamples=100, seed=number))
        assert section is not None
        low, high = section["next_doubling"]["finetune"]["ci95"]
        covered.append(low <= truth <= high)
    assert np.mean(covered) >= 0.9


def test_three_points_make_no_law() -> None:
    found = sides(np.array([3.0, 2.5, 2.2]), np.random.default_rng(0), 0.0)
    assert law_section(TOKENS[:3], found, 0.0, BitsPerByte(1.0, resamples=10, seed=0)) is None


def test_resampled_texts_are_the_same_for_all_sides() -> None:
    rng = np.random.default_rng(1)
    harder = rng.normal(3, 0.5, size=60)
    pair = [Losses((harder + shift)[None] * 10, np.full(60, 10)) for shift in (0.0, 0.25)]
    draws = text_draws(pair, resamples=50, rng=rng)
    assert draws.shape == (50, 2)
    assert draws[:, 1] - draws[:, 0] == pytest.approx(np.full(50, 0.25))
    assert draws[:, 0].std() > 0.01
