"""The ladder as a picture: our loss on each rung with its interval, and the lecture's number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.experiments.ladder.climb import RungResult
from pipeline.report.figures.drawing import COLOURS

LECTURE: dict[str, Any] = {"color": COLOURS["muted"], "markersize": 9, "fillstyle": "none"}


def ladder(results: Sequence[RungResult], inches: float) -> Figure:
    """One row per rung, from the top down, `inches` wide; a rung that was not run shows the lecture's number alone."""
    figure = Figure(figsize=(inches, 0.5 * len(results) + 1.2), layout="constrained")
    axes = figure.subplots()
    for height, result in enumerate(results):
        axes.plot(result.published, height, "D", **LECTURE)
        if result.mean is None:
            _beside(axes, "not run", result.published, height, COLOURS["muted"])
        else:
            _draw(axes, result, result.mean, height)
    # Empty lines for the legend alone.
    axes.plot([], [], "D", **LECTURE, label="the lecture's number")
    axes.plot(
        [], [], "o-", color=COLOURS["scratch"], markersize=5, label="ours with its 95% interval; a stroke per seed"
    )
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
    axes.set_yticks(range(len(results)), [result.rung for result in results])
    axes.set_ylim(len(results) - 0.5, -0.5)
    axes.margins(x=0.14)  # room for the numbers beside the rightmost points
    axes.set_xlabel("validation loss, nats per character: left is better")
    return figure


def _draw(axes: Axes, result: RungResult, mean: float, height: int) -> None:
    low, high = result.interval or (mean, mean)
    axes.plot([low, high], [height, height], color=COLOURS["scratch"], linewidth=2.4, solid_capstyle="round")
    axes.plot(result.losses, [height] * len(result.losses), "|", color=COLOURS["scratch"], markersize=11, alpha=0.6)
    axes.plot(mean, height, "o", color=COLOURS["scratch"], markersize=5)
    _beside(axes, f"{mean:.3f}", max(high, result.published), height, COLOURS["ink"])


def _beside(axes: Axes, text: str, x: float, y: float, colour: str) -> None:
    axes.annotate(text, (x, y), (11, 0), textcoords="offset points", va="center", color=colour)
