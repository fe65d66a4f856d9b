from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.report.figures.drawing import COLOURS, framed, inline_svg, is_narrow, write_png
from pipeline.report.figures.marks import Chart


def line(inches: float) -> Chart:
    chart, (axes,) = framed(inches, 0.5)
    axes.plot([0, 1], [2.0, 1.0], color=COLOURS["finetune"], label="falls")
    axes.set_title("A line")
    return chart


def test_both_widths_take_colours_from_the_page_and_keep_text() -> None:
    drawn = inline_svg("line", line, "It falls.")
    assert list(drawn) == ["wide", "narrow"]
    for width, svg in drawn.items():
        assert svg.startswith(f'<svg role="img" aria-label="It falls." class="{width}" ')
        assert "var(--finetune)" in svg and COLOURS["finetune"] not in svg
        assert ">A line</text>" in svg
    assert [float(re.search(r'width="([\d.]+)pt"', svg)[1]) for svg in drawn.values()] == pytest.approx(  # type: ignore[index]
        [7.4 * 72, 3.9 * 72], abs=0.1
    )


def test_drawing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    assert inline_svg("line", line, "") == inline_svg("line", line, "")
    for name in ("first.png", "second.png"):
        write_png(tmp_path / name, line)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def test_ids_of_two_figures_never_meet_in_one_page() -> None:
    first, second = (set(re.findall(r' id="(\w+)"', inline_svg(name, line, "")["wide"])) for name in ("one", "two"))
    assert first and not first & second


def test_a_figure_for_a_phone_is_taller() -> None:
    shapes = [framed(inches, 0.5)[0].get_size_inches() for inches in (7.4, 3.9)]
    assert [height / width for width, height in shapes] == pytest.approx([0.5, 0.82])
    assert is_narrow(3.9) and not is_narrow(7.4)
