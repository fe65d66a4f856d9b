"""The report's three figures: as inline SVG that takes its colours and letters from the page, and as PNG.

A figure is drawn twice, wide for a desk and narrow for a phone, and the page shows the one that fits. Its text stays
text. Drawing the same numbers again gives the same bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipeline.results.verdict import number

# Names of the page's CSS variables, and their values in its light theme for where there is no page.
COLOURS = {
    "ink": "#1f1d1a",
    "muted": "#6f6a61",
    "line": "#d9d3c7",
    "paper": "#fdfcf8",
    "scratch": "#3d6b8e",
    "zero_shot": "#8a7a3c",
    "finetune": "#a8432f",
}
LABELS = {"scratch": "From scratch", "zero_shot": "Pretrained only", "finetune": "Finetuned"}
WIDTHS = {"wide": 7.4, "narrow": 3.9}  # inches at 72 SVG points
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": COLOURS["ink"],
    "axes.edgecolor": COLOURS["line"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": COLOURS["line"],
    "grid.linewidth": 0.6,
    "xtick.color": COLOURS["line"],
    "ytick.color": COLOURS["line"],
    "xtick.labelcolor": COLOURS["muted"],
    "ytick.labelcolor": COLOURS["muted"],
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
# What matplotlib fixes in each figure, left to the page: letters, joins, and names that several figures would share.
PAGE_DECIDES = (
    (r" font-family: [^;\"]+;?", ""),
    (r"<defs>\s*<style.*?</style>\s*</defs>", ""),
    (r'<g id="[^"]*"', "<g"),
)
Draw = Callable[[float], Figure]


def inline_svg(name: str, draw: Draw, description: str) -> dict[str, str]:
    """The figure by width name, each as an <svg> element with CSS variables for colours."""
    return {width: _svg(f"{name}-{width}", draw, inches, description) for width, inches in WIDTHS.items()}


def write_png(path: Path, draw: Draw) -> None:
    """The wide figure on the light theme's paper."""
    with mpl.rc_context(STYLE):
        figure = draw(WIDTHS["wide"])
        FigureCanvasAgg(figure)
        figure.savefig(path, format="png", dpi=180, facecolor=COLOURS["paper"], metadata={"Software": None})


def learning_curves(
    curves: Mapping[str, Sequence[Mapping[str, Any]]], validation: Mapping[str, Sequence[float]], inches: float
) -> Figure:
    """Bits per byte of the selection text over steps, one line per seed; the best step ringed.

    `curves`: arm -> seeds, each {steps, bits_per_byte, best}, `best` an index. `validation`: arm -> bits per byte of
    the validation text per seed, drawn as diamonds at the best steps; the zero-shot arm's at step 0.
    """
    figure, (axes,) = _figure(inches, 0.52)
    tops = list(validation.get("zero_shot", ()))
    axes.plot([0] * len(tops), tops, "D", color=COLOURS["zero_shot"], markersize=4.5)
    for arm, seeds in curves.items():
        for seed, curve in enumerate(seeds):
            steps, losses, best = curve["steps"], curve["bits_per_byte"], curve["best"]
            label = LABELS[arm] if seed == 0 else None
            axes.plot(steps, losses, color=COLOURS[arm], linewidth=1.3, alpha=0.85, label=label)
            axes.plot(steps[best], losses[best], "o", color=COLOURS[arm], markersize=7, fillstyle="none")
            axes.plot(steps[best], validation[arm][seed], "D", color=COLOURS[arm], markersize=4.5)
            tops.append(max(losses[len(losses) // 8 :]))
    axes.plot([], [], "o", color=COLOURS["muted"], markersize=7, fillstyle="none", label="best step, selection text")
    axes.plot([], [], "D", color=COLOURS["muted"], markersize=4.5, label="same weights, validation text")
    axes.set_ylim(top=max(tops) * 1.04)
    axes.set(xlabel="step", ylabel="loss, bits per byte")
    _legend_above(axes, inches)
    return figure


def comparison(report: Mapping[str, Any], inches: float) -> Figure:
    """Bits per byte of every arm and every published reference with 95% intervals, and the gain on its own scale."""
    rows = [_Row(LABELS[arm], COLOURS[arm], values["val_bits_per_byte"]) for arm, values in report["arms"].items()]
    rows += [_Row(one["name"], COLOURS["muted"], _published(one), marker="D") for one in report["references"]]
    gains = [_Row("Gain", COLOURS["finetune"], report["gain"]["bits_per_byte"])] if report["gain"] else []
    heights = [len(part) for part in (rows, gains) if part]
    figure, axes = _figure(inches, (0.45 * sum(heights) + 0.55 * len(heights)) / inches, heights)
    _forest(axes[0], rows, "validation loss, bits per byte: left is better")
    if gains:
        axes[1].axvline(0, ymax=0.45, color=COLOURS["ink"], linewidth=1)
        _forest(axes[1], gains, "scratch minus finetuned, bits per byte: right of 0 helps")
    return figure


def pretraining(
    train: Sequence[tuple[float, float]],
    validation: Sequence[tuple[float, float]],
    gap: Mapping[str, Any],
    inches: float,
) -> Figure:
    """Nats per token over tokens seen, on the training batches and on documents held out; the final gap spelled out."""
    figure, (axes,) = _figure(inches, 0.52)
    axes.plot(*zip(*_smoothed(train), strict=True), color=COLOURS["muted"], linewidth=1.0, label="training batches")
    if validation:
        style: dict[str, Any] = {"color": COLOURS["finetune"], "linewidth": 1.6, "marker": "o", "markersize": 3}
        axes.plot(*zip(*validation, strict=True), label="held-out documents", **style)
    low, high = gap["gap_ci95"]
    text = f"final gap {number(gap['gap'])} nats/token\n95% interval {number(low)} to {number(high)}"
    axes.text(0.98, 0.6, text, transform=axes.transAxes, ha="right", va="center", color=COLOURS["ink"])
    losses = sorted(loss for _, loss in train)
    axes.set_ylim(top=losses[int(len(losses) * 0.95)] * 1.05)
    axes.xaxis.set_major_formatter(lambda tokens, _: f"{tokens / 1e6:g}M")
    axes.set(xlabel="tokens seen", ylabel="loss, nats per token")
    _legend_above(axes, inches)
    return figure


def _legend_above(axes: Axes, inches: float) -> None:
    """Name the lines above the axes, where no curve can run under them."""
    columns = 1 if _is_narrow(inches) else 2
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2)


def _is_narrow(inches: float) -> bool:
    return inches < WIDTHS["wide"]


def _figure(inches: float, aspect: float, heights: Sequence[float] = (1.0,)) -> tuple[Figure, list[Axes]]:
    aspect = max(aspect, 0.82) if _is_narrow(inches) and len(heights) == 1 else aspect
    figure = Figure(figsize=(inches, inches * aspect), layout="constrained")
    grid = figure.subplots(len(heights), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    return figure, list(grid[:, 0])


@dataclass(frozen=True)
class _Row:
    """One line of a forest plot; `value` has mean and ci95, and per_seed where there are seeds."""

    name: str
    colour: str
    value: Mapping[str, Any]
    marker: str = "o"


def _published(reference: Mapping[str, Any]) -> dict[str, Any]:
    low, high = reference["low"], reference["high"]
    return {"mean": (low + high) / 2, "ci95": [low, high]}


def _forest(axes: Axes, rows: Sequence[_Row], label: str) -> None:
    for height, row in enumerate(rows):
        low, high = row.value["ci95"]
        seeds = row.value.get("per_seed", ())
        axes.axhline(height, color=COLOURS["line"], linewidth=0.8, zorder=0)
        axes.plot([low, high], [height, height], color=row.colour, linewidth=2.4, solid_capstyle="round")
        axes.plot(row.value["mean"], height, row.marker, color=row.colour, markersize=6)
        axes.plot(seeds, [height] * len(seeds), "|", color=row.colour, markersize=11, alpha=0.6)
        interval = f"  ({number(low)} to {number(high)})" if high > low else ""
        place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center"}
        axes.text(0, height - 0.45, row.name, color=row.colour, weight="bold", **place)
        axes.text(1, height - 0.45, number(row.value["mean"]) + interval, ha="right", **place)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(len(rows) - 0.6, -0.75)
    axes.margins(x=0.05)
    axes.set_xlabel(label)


def _smoothed(points: Sequence[tuple[float, float]], most: int = 240) -> list[tuple[float, float]]:
    """At most `most` points, each the mean of its neighbours."""
    size = -(-len(points) // most)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(group[-1][0], sum(loss for _, loss in group) / len(group)) for group in groups]


def _svg(name: str, draw: Draw, inches: float, description: str) -> str:
    with mpl.rc_context(STYLE | {"svg.hashsalt": name, "svg.id": name}):
        file = io.StringIO()
        draw(inches).savefig(file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    for variable, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{variable})")
    for pattern, replacement in PAGE_DECIDES:
        svg = re.sub(pattern, replacement, svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(description)}" class="{name.split("-")[1]}" ', 1)
