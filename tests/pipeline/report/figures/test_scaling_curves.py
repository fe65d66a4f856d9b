from __future__ import annotations

from typing import Any

import pytest

from pipeline.report.figures.scaling_curves import LAW_STEPS, gain_curve, size_curve


def test_the_control_is_a_line_across_and_every_point_can_be_read(whole: Any) -> None:
    report = whole.report
    scratch = report.arms.scratch.val_bits_per_byte
    chart = gain_curve(report.curve, scratch, inches=7.4)
    across = [line for line in chart.axes[0].lines if line.get_label() == "from scratch, no pretraining"]
    assert across[0].get_ydata() == [scratch.mean, scratch.mean]
    headings = [mark.lines[0] for mark in chart.marks]
    assert headings[:2] == ["Pretrained only, after 64 tokens", "Finetuned, after 64 tokens"]
    assert len(headings) == 2 * 5 + 1 and headings[-1] == "Next doubling, 2.56k tokens"


def test_the_law_is_drawn_from_the_first_point_to_the_next_doubling(whole: Any) -> None:
    curve = whole.report.curve
    chart = gain_curve(curve, whole.report.arms.scratch.val_bits_per_byte, inches=3.9)
    (law,) = (line for line in chart.axes[0].lines if line.get_label() == "fitted power law")
    tokens, losses = law.get_xdata(), law.get_ydata()
    assert len(tokens) == LAW_STEPS + 1
    assert (tokens[0], tokens[-1]) == pytest.approx((64, 2560))
    assert losses[-1] == pytest.approx(curve.law.next_doubling.finetune.mean, abs=1e-4)


def test_few_points_have_no_law_to_draw(whole: Any) -> None:
    curve = whole.report.curve.model_copy(update={"law": None})
    chart = gain_curve(curve, whole.report.arms.scratch.val_bits_per_byte, inches=7.4)
    assert len(chart.marks) == 2 * 5
    assert "fitted power law" not in [line.get_label() for line in chart.axes[0].lines]


def test_sizes_are_labelled_by_their_parameters(whole: Any) -> None:
    small, own = whole.report.sizes
    chart = size_curve(whole.report.sizes, inches=7.4)
    assert chart.axes[0].get_xticks().tolist() == [small.params, own.params]
    readings = [mark.lines for mark in chart.marks]
    assert len(readings) == 2 * 3
    assert readings[0][1] == f"{small.scratch.mean:.6g} bits/byte"
