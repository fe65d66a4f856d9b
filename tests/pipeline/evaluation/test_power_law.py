from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluation.power_law import Law, fitted

TOKENS = np.array([1e6, 2e6, 4e6, 8e6, 16e6, 32e6])


def test_law_of_exact_losses_is_found_again() -> None:
    (law,) = fitted(TOKENS, (1.5 + 0.4 * (TOKENS / 32e6) ** -0.3)[None])
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
