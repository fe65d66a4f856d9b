from __future__ import annotations

import math
from typing import Any

import pytest

from pipeline.report.figures.all_figures import drawings
from pipeline.report.finished_run import FinishedRun
from pipeline.report.wording import headline


@pytest.fixture
def run(chain: Any) -> FinishedRun:
    return FinishedRun.of(chain.work())


def test_each_section_with_something_to_draw_has_a_figure(
    run: FinishedRun, whole_run: Any, written: Any, whole: Any
) -> None:
    assert list(drawings(written.report, run)) == ["comparison", "curves", "pretraining"]
    everything = ["comparison", "curves", "gain_curve", "size_curve", "pretraining"]
    assert list(drawings(whole.report, whole_run)) == everything


def test_the_comparison_is_described_by_the_answer(run: FinishedRun, written: Any) -> None:
    assert drawings(written.report, run)["comparison"].description == str(headline(written.report))


def test_curves_show_the_selection_loss_in_bits_per_byte(run: FinishedRun, written: Any) -> None:
    chart = drawings(written.report, run)["curves"].draw(7.4)
    curve = next(line for line in chart.axes[0].lines if line.get_linewidth() == 1.6 and len(line.get_xdata()) == 3)
    counts = run.artifacts["shards"].manifest.counts["target_selection"]
    bits = counts["tokens"] / counts["bytes"] / math.log(2)
    assert list(curve.get_xdata()) == [10, 20, 30]
    assert list(curve.get_ydata()) == pytest.approx([2.5 * bits, 2.0 * bits, 2.2 * bits])


def test_pretraining_shows_what_its_metrics_logged(run: FinishedRun, written: Any) -> None:
    chart = drawings(written.report, run)["pretraining"].draw(7.4)
    held_out = [mark for mark in chart.marks if mark.lines[0] == "Held-out documents"]
    assert [mark.lines[1:] for mark in held_out] == [("2.100 nats/token", "after 1.28k tokens")]
    assert held_out[0].points == [(1280, 2.1)]
