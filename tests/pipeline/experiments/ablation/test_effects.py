from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.evaluation.intervals import Losses, corrected, pooled_spread
from pipeline.experiments.ablation.ablate import AblationResults
from pipeline.experiments.ablation.effects import findings

Experiment = Callable[..., AblationResults]


def test_large_effects_are_shown_and_small_ones_are_not(experiment: Experiment) -> None:
    found = findings(experiment(0, {"better": -0.5, "worse": 0.5, "same": 0.0}))
    verdicts = {finding.name: finding.by_tokens.verdict for finding in found.changes}
    assert verdicts == {"better": "helps", "worse": "hurts", "same": "not shown"}
    assert [finding.name for finding in found.changes] == ["better", "same", "worse"], "the best first"
    better = found.changes[0]
    assert better.by_tokens.bits_per_byte.mean == pytest.approx(-0.25, abs=0.02), "half a nat is a quarter of a bit"
    assert better.by_tokens.bits_per_byte.high < 0


def test_matched_time_may_say_the_opposite_of_matched_tokens(experiment: Experiment) -> None:
    found = findings(experiment(1, {"slow": -0.5}, timed={"slow": 0.5}))
    (slow,) = found.changes
    assert (slow.by_tokens.verdict, slow.by_time.verdict) == ("helps", "hurts")
    assert (slow.by_tokens.tokens, slow.by_time.tokens, slow.same_run) == (1000, 800, False)
    assert (found.tries, slow.speed_ratio) == (2, 0.8)


def test_ten_changes_without_effect_are_rarely_called_anything(experiment: Experiment) -> None:
    nothing = {f"change {number}": 0.0 for number in range(10)}
    found = [findings(experiment(seed, nothing)) for seed in range(40)]
    wrong = [any(one.by_time.verdict != "not shown" for one in each.changes) for each in found]
    assert np.mean(wrong) <= 0.1


def test_corrected_p_values_are_holms() -> None:
    # By hand: 0.01 x 4; 0.02 x 3 = 0.06; 0.03 x 2 = 0.06; 0.5 x 1.
    assert corrected([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert corrected([0.4, 0.6]) == [0.8, 0.8], "never in another order, never above 1"


def test_pooled_spread_is_that_of_all_kinds_together() -> None:
    kinds = [Losses(np.array(values)[:, None] * np.ones((1, 2)), np.ones(2, dtype=int)) for values in ([1, 3], [5, 5])]
    spread = pooled_spread(kinds)
    assert (spread.deviation, spread.degrees) == (pytest.approx(1.0), 2)  # squares 1 + 1 + 0 + 0 over 2 degrees
