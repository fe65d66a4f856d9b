"""The report's curves as drawings."""

from __future__ import annotations

from pipeline.report.figures.loss_curves import SeedCurve, learning_curves


def test_a_validation_loss_above_the_selection_text_is_inside_the_axes() -> None:
    curve = SeedCurve(seed=1, steps=(10, 20), bits_per_byte=(2.2, 2.0), best=1)
    chart = learning_curves({"scratch": [curve]}, {"scratch": [2.6]}, inches=6.0)
    low, high = chart.axes[0].get_ylim()
    assert low < 2.0 and high > 2.6
