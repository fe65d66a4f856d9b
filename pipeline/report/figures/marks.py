"""Values to read off a figure: where each lies, what it says, and the elements that carry it in the page.

A mark is an invisible stroke over what the figure shows, wide enough for a finger, with its words in a <title>. A
browser shows them by itself; `report.js` reads the same elements and shows them sooner, to touch and keyboard as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Points = Sequence[tuple[float, float]]  # in the units of the axes


@dataclass(frozen=True)
class Mark:
    """One value: the points where it is drawn, the class that colours it, its words, a line for each."""

    axes: Axes
    points: Points
    colour: str
    lines: tuple[str, ...]
    joined: bool = False  # the stroke runs through the points instead of dotting each


class Chart(Figure):
    """A figure that knows the values to read off it."""

    def __init__(self, **frame: Any) -> None:
        super().__init__(**frame)
        self.marks: list[Mark] = []
        self.reads_rows = False  # the nearest value is that of the row, otherwise that of the column

    def mark(self, axes: Axes, points: Points, colour: str, lines: Iterable[str], *, joined: bool = False) -> None:
        """Let the page say `lines` at `points`; those outside of the axes are left out."""
        # Curves may run out of view above; a mark there would lie over the legend.
        low, high = sorted(axes.get_ylim())
        shown = [point for point in points if low <= point[1] <= high]
        if shown:
            self.marks.append(Mark(axes, shown, colour, tuple(lines), joined))

    def overlay(self) -> str:
        """The marks as an SVG group, in points. Call it when the figure is drawn: only then are places known."""
        rows = " rows" if self.reads_rows else ""
        return f'<g class="marks{rows}">\n' + "".join(self._element(mark) for mark in self.marks) + "</g>\n"

    def _element(self, mark: Mark) -> str:
        places = [self._place(mark.axes, point) for point in mark.points]
        path = "M" + "L".join(places) if mark.joined else "".join(f"M{place}h0" for place in places)
        words = escape("\n".join(mark.lines))
        return f'<path class="mark {mark.colour}" d="{path}"><title>{words}</title></path>\n'

    def _place(self, axes: Axes, point: tuple[float, float]) -> str:
        across, up = self.transFigure.inverted().transform(axes.transData.transform(point))
        width, height = self.get_size_inches() * 72
        return f"{across * width:.1f} {(1 - up) * height:.1f}"
