"""The curves show the losses that they are given, say them in words, and keep what matters in view."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes

from pipeline.report.figures.loss_curves import ScoredSeed, TrialCurve, learning_curves, pretraining
from pipeline.report.figures.marks import Chart
from pipeline.report.section_records import ReportedPretraining

ONE = TrialCurve("rate 0.01", steps=(10, 20, 30), bits_per_byte=(2.4, 2.0, 2.1), best=1, chosen=True)
TWO = TrialCurve("rate 0.02", steps=(10, 20, 30), bits_per_byte=(2.5, 2.2, 2.15), best=2, chosen=False)
REFITS = [ScoredSeed(1, 21, 2.6, refit=True), ScoredSeed(2, 21, 2.3, refit=True)]
GAP = ReportedPretraining(
    tokens=1000,
    batch_tokens=50,
    steps=10,
    train_nats_per_token=4.0,
    train_nats_per_token_ci95=(3.9, 4.1),
    val_nats_per_token=4.25,
    val_nats_per_token_ci95=(4.1, 4.4),
    gap=0.25,
    gap_ci95=(0.1, 0.4),
    windows=8,
    train_documents=4,
    validation_documents=2,
)


@pytest.fixture
def chart() -> Chart:
    return learning_curves({"scratch": [ONE, TWO]}, {"scratch": REFITS}, [2.9], inches=7.4)


def points(axes: Axes, marker: str) -> set[tuple[float, float]]:
    """Every point that is drawn with a marker."""
    lines = [line for line in axes.lines if line.get_marker() == marker]
    return {(float(x), float(y)) for line in lines for x, y in np.asarray(line.get_xydata())}


def test_every_trial_is_a_line_through_its_losses_and_the_chosen_one_is_strong(chart: Chart) -> None:
    lines = [line for line in chart.axes[0].lines if len(line.get_xdata()) == 3]  # type: ignore[arg-type]
    drawn = {line.get_linewidth(): np.asarray(line.get_xydata()).tolist() for line in lines}
    assert drawn == {1.6: [[10, 2.4], [20, 2.0], [30, 2.1]], 0.9: [[10, 2.5], [20, 2.2], [30, 2.15]]}


def test_the_chosen_step_is_ringed_and_the_refits_are_diamonds(chart: Chart) -> None:
    assert points(chart.axes[0], "o") == {(20, 2.0)}
    assert points(chart.axes[0], "D") == {(0, 2.9), (21, 2.6), (21, 2.3)}


def test_a_mark_says_the_losses_of_all_trials_at_its_step(chart: Chart) -> None:
    words = {mark.lines for mark in chart.marks}
    assert (
        "From scratch, step 20",
        "selection text, bits/byte",
        "rate 0.01: 2.000, chosen",
        "rate 0.02: 2.200",
    ) in words
    assert ("From scratch, refits to step 21", "validation text, bits/byte", "seed 1: 2.6", "seed 2: 2.3") in words
    assert ("Pretrained only, validation text", "2.9 bits/byte") in words


@pytest.mark.parametrize(("refit", "reported"), [(True, "refits"), (False, "same weights")])
def test_an_arm_is_named_once_in_the_legend(refit: bool, reported: str) -> None:
    chart = learning_curves({"scratch": [ONE, TWO]}, {"scratch": [ScoredSeed(1, 20, 2.6, refit)]}, (), inches=7.4)
    legend = chart.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "From scratch",
        "chosen on selection text",
        f"{reported}, validation text",
    ]


def test_a_validation_loss_above_the_selection_text_is_inside_the_axes(chart: Chart) -> None:
    low, high = chart.axes[0].get_ylim()
    assert low < 2.0 and high > 2.9


def test_the_fall_from_random_weights_may_leave_the_view() -> None:
    losses = (8.0, *([2.0] * 15))
    curve = TrialCurve("rate 0.01", steps=tuple(range(16)), bits_per_byte=losses, best=3, chosen=True)
    chart = learning_curves({"scratch": [curve]}, {"scratch": [ScoredSeed(1, 3, 2.1, True)]}, (), inches=6.0)
    assert 2.1 < chart.axes[0].get_ylim()[1] < 3


def test_pretraining_shows_both_losses_and_spells_the_gap_out() -> None:
    chart = pretraining([(100.0, 5.0), (200.0, 4.0)], [(200.0, 4.25)], GAP, inches=7.4)
    axes = chart.axes[0]
    assert [np.asarray(line.get_xydata()).tolist() for line in axes.lines] == [[[100, 5.0], [200, 4.0]], [[200, 4.25]]]
    assert axes.texts[0].get_text() == "final gap 0.250 nats/token\n95% interval 0.100 to 0.400"
    assert ("Held-out documents", "4.250 nats/token", "after 200 tokens") in {mark.lines for mark in chart.marks}


def test_many_batches_are_drawn_as_means_of_neighbours() -> None:
    train = [(float(step), 4.0 + step % 2) for step in range(480)]
    chart = pretraining(train, [], GAP, inches=7.4)
    (line,) = chart.axes[0].lines
    assert np.asarray(line.get_xydata())[:2].tolist() == [[1, 4.5], [3, 4.5]]
    assert len(np.asarray(line.get_xydata())) == 240


def test_pretraining_without_a_held_out_part_says_so() -> None:
    alone = GAP.model_copy(update={"gap": None, "gap_ci95": None, "val_nats_per_token": None})
    axes = pretraining([(100.0, 5.0), (200.0, 4.0)], [], alone, inches=7.4).axes[0]
    assert [text.get_text() for text in axes.texts] == ["no held-out part of the corpus"]
    short = pretraining([(100.0, 5.0), (200.0, 4.0)], [(200.0, 4.25)], alone, inches=7.4).axes[0]
    assert [text.get_text() for text in short.texts] == [""], "it was evaluated, on less than two windows"
