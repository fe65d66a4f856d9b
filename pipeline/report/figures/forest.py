"""The figure of the comparison: every arm and the gain, each a line with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from pipeline.report.figures.drawing import COLOURS, LABELS, framed
from pipeline.report.figures.marks import Chart
from pipeline.report.report_json import Report
from pipeline.report.report_records import ReportedLoss, ReportedMean
from pipeline.report.section_records import ReportedReference
from pipeline.report.wording import exact, number


@dataclass(frozen=True)
class Row:
    """One line of a forest plot: a value with its interval, and a tick for each seed of a loss."""

    name: str
    colour: str
    value: ReportedMean
    marker: str = "o"
    range: str = "95% interval"

    @property
    def seeds(self) -> tuple[float, ...]:
        """Each seed's own value; a gain or a published loss has none."""
        return self.value.per_seed if isinstance(self.value, ReportedLoss) else ()

    def reading(self) -> list[str]:
        """Its value with every digit of report.json, its interval and its seeds."""
        low, high = self.value.ci95
        lines = [self.name, f"{exact(self.value.mean)} bits/byte"]
        lines += [f"{self.range} {exact(low)} to {exact(high)}"] if high > low else []
        return lines + ([f"its seeds {', '.join(map(exact, self.seeds))}"] if len(self.seeds) > 1 else [])


def comparison(report: Report, inches: float) -> Chart:
    """Bits per byte of every arm and every published reference with 95% intervals, and the gain on its own scale."""
    rows = [Row(LABELS[name], name, arm.val_bits_per_byte) for name, arm in report.arms.by_name().items()]
    rows += [
        Row(reference.name, "muted", _published(reference), "D", "published as")
        for reference in report.references
        if reference.differs is None  # in one picture they would be compared
    ]
    gains = [Row("Gain", "finetune", report.gain.bits_per_byte)] if report.gain else []
    heights = [len(block) for block in (rows, gains) if block]
    chart, axes = framed(inches, (0.45 * sum(heights) + 0.55 * len(heights)) / inches, heights)
    chart.reads_rows = True  # a pointer anywhere in a row reads it
    forest(chart, axes[0], rows, "validation loss, bits per byte: left is better")
    if gains:
        axes[1].axvline(0, ymax=0.45, color=COLOURS["ink"], linewidth=1)
        forest(chart, axes[1], gains, "scratch minus finetuned, bits per byte: right of 0 helps")
    return chart


def _published(reference: ReportedReference) -> ReportedMean:
    """The published range, drawn like an interval; its reading says that it is none."""
    return ReportedMean(mean=(reference.low + reference.high) / 2, ci95=(reference.low, reference.high))


def forest(chart: Chart, axes: Axes, rows: Sequence[Row], label: str) -> None:
    """Draw the rows, first on top: name and value in words, interval, mean, a tick for each seed."""
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(len(rows) - 0.6, -0.75)  # upside down: the first row is on top
    axes.margins(x=0.05)
    axes.set_xlabel(label)
    for height, row in enumerate(rows):
        _line(axes, height, row)
        low, high = row.value.ci95
        points = sorted({low, row.value.mean, high})  # one point where nothing is uncertain
        chart.mark(axes, [(x, height) for x in points], row.colour, row.reading(), joined=len(points) > 1)


def _line(axes: Axes, height: int, row: Row) -> None:
    (low, high), colour = row.value.ci95, COLOURS[row.colour]
    axes.axhline(height, color=COLOURS["line"], linewidth=0.8, zorder=0)
    axes.plot([low, high], [height, height], color=colour, linewidth=2.4, solid_capstyle="round")
    axes.plot(row.value.mean, height, row.marker, color=colour, markersize=6)
    axes.plot(row.seeds, [height] * len(row.seeds), "|", color=colour, markersize=11, alpha=0.6)
    interval = f"  ({number(low)} to {number(high)})" if high > low else ""
    # Words are placed by the axes' width, not by the losses: first and last letter line up with the figure's edges.
    place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center"}
    axes.text(0, height - 0.45, row.name, color=colour, weight="bold", **place)
    axes.text(1, height - 0.45, number(row.value.mean) + interval, ha="right", **place)
