from __future__ import annotations

import re

from pipeline.report.figures.drawing import framed


def test_a_mark_lies_where_the_figure_shows_its_value() -> None:
    chart, (axes,) = framed(5.0, 0.5)
    axes.set(xlim=(0, 10), ylim=(0, 1))
    chart.mark(axes, [(5, 0.5)], "scratch", ["a", "b"])
    chart.draw_without_rendering()
    (place,) = re.findall(r'd="M([\d.]+) ([\d.]+)h0"', chart.overlay())
    box = axes.get_window_extent().transformed(chart.dpi_scale_trans.inverted())
    across, up = (box.x0 + box.x1) / 2 * 72, (box.y0 + box.y1) / 2 * 72
    assert abs(float(place[0]) - across) < 0.1
    assert abs(float(place[1]) - (chart.get_figheight() * 72 - up)) < 0.1, "SVG counts down from the top"


def test_words_are_escaped_and_the_colour_is_a_class() -> None:
    chart, (axes,) = framed(5.0, 0.5)
    chart.mark(axes, [(0.2, 0.2), (0.4, 0.2)], "finetune", ["1 < 2", "&"], joined=True)
    assert '<path class="mark finetune" d="M' in chart.overlay()
    assert "<title>1 &lt; 2\n&amp;</title>" in chart.overlay()
    assert re.search(r'd="M[\d. ]+L[\d. ]+"', chart.overlay()), "one stroke through both points"


def test_a_point_outside_of_the_axes_cannot_be_read() -> None:
    chart, (axes,) = framed(5.0, 0.5)
    axes.set_ylim(0, 1)
    chart.mark(axes, [(0, 2.0)], "scratch", ["above"])
    chart.mark(axes, [(0, 0.5), (0, 2.0)], "scratch", ["half inside"])
    assert [mark.lines for mark in chart.marks] == [("half inside",)]
    assert chart.marks[0].points == [(0, 0.5)]


def test_rows_are_told_to_the_script() -> None:
    chart, _ = framed(5.0, 0.5)
    assert '<g class="marks">' in chart.overlay()
    chart.reads_rows = True
    assert '<g class="marks rows">' in chart.overlay()
