from __future__ import annotations

import pytest

from pipeline.training.schedule import Schedule


def test_cosine_warms_up_linearly_and_falls_to_its_end() -> None:
    schedule = Schedule("cosine", steps=6, peak=2.0, warmup_steps=2, decay_steps=0, final=0.1)
    # Four steps after the warmup: cos(0), cos(pi/4), cos(pi/2), cos(3 pi/4) between 1 and 0.1 of the peak.
    heights = [1.0, 0.5 + 0.5 * 2**-0.5, 0.5, 0.5 - 0.5 * 2**-0.5]
    expected = [1.0, 2.0] + [2.0 * (0.1 + 0.9 * height) for height in heights]
    assert [schedule.rate(step) for step in range(6)] == pytest.approx(expected)


def test_wsd_stays_at_its_peak_until_the_decay() -> None:
    schedule = Schedule("wsd", steps=10, peak=1.0, warmup_steps=2, decay_steps=4, final=0.2)
    expected = [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.8, 0.6, 0.4]
    assert [schedule.rate(step) for step in range(10)] == pytest.approx(expected)


def test_constant_needs_no_warmup() -> None:
    schedule = Schedule("constant", steps=3, peak=0.5, warmup_steps=0, decay_steps=1, final=0.0)
    assert [schedule.rate(step) for step in range(3)] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("kind", ["cosine", "wsd"])
def test_every_update_has_a_rate_above_zero(kind: str) -> None:
    schedule = Schedule(kind, steps=50, peak=1.0, warmup_steps=5, decay_steps=50, final=0.0)  # type: ignore[arg-type]
    assert min(schedule.rate(step) for step in range(50)) > 0
    assert max(schedule.rate(step) for step in range(50)) <= 1.0
