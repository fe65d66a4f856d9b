"""What the report's figures share: frame, style, and their form as inline SVG and as PNG.

A figure is drawn twice, wide for a desk and narrow for a phone, and the page shows the one that fits. It takes its
colours and letters from the page, its text stays text, and its marks say their values. Drawing the same numbers again
gives the same bytes. The figures themselves: `forest.py`, `loss_curves.py` and `scaling_curves.py`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipeline.report.figures.marks import Chart

# Names of the page's CSS variables, and their values in its light theme for where there is no page.
COLOURS = {
    "ink": "#1f1d1a",
    "muted": "#6f6a61",
    "line": "#d9d3c7",
    "paper": "#fdfcf8",
    "scratch": "#3d6b8e",
    "zero_shot": "#756628",
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
Draw = Callable[[float], Chart]


def inline_svg(name: str, draw: Draw, description: str) -> dict[str, str]:
    """The figure by width name, each as an <svg> element with CSS variables for colours."""
    return {width: _svg(f"{name}-{width}", draw, inches, description) for width, inches in WIDTHS.items()}


def write_png(path: Path, draw: Callable[[float], Figure]) -> None:
    """The wide figure on the light theme's paper."""
    with mpl.rc_context(STYLE):
        figure = draw(WIDTHS["wide"])
        # A canvas of its own instead of pyplot's global state, which would keep every figure alive.
        FigureCanvasAgg(figure)
        figure.savefig(path, format="png", dpi=180, facecolor=COLOURS["paper"], metadata={"Software": None})


def legend_above(axes: Axes, inches: float) -> None:
    """Name the lines above the axes, where no curve can run under them."""
    columns = 1 if is_narrow(inches) else 2
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2)


def is_narrow(inches: float) -> bool:
    """Whether a figure of this width is the one for a phone."""
    return inches < WIDTHS["wide"]


def framed(inches: float, aspect: float, heights: Sequence[float] = (1.0,)) -> tuple[Chart, list[Axes]]:
    """An empty chart and its axes, one below the other; `aspect` is height by width, `heights` are shares of it."""
    # On a phone a flat figure would have no room for its lines; a forest plot brings the height of its rows.
    aspect = max(aspect, 0.82) if is_narrow(inches) and len(heights) == 1 else aspect
    chart = Chart(figsize=(inches, inches * aspect), layout="constrained")
    grid = chart.subplots(len(heights), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    return chart, list(grid[:, 0])


def _svg(name: str, draw: Draw, inches: float, description: str) -> str:
    # matplotlib draws ids from a salt; a fixed one gives the same bytes again, and the name keeps two figures apart.
    with mpl.rc_context(STYLE | {"svg.hashsalt": name, "svg.id": name}):
        file = io.StringIO()
        chart = draw(inches)
        chart.savefig(file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]  # without the XML header, which has no place inside a page
    for variable, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{variable})")
    for pattern, replacement in PAGE_DECIDES:
        svg = re.sub(pattern, replacement, svg)
    svg = svg.replace("</svg>", f"{chart.overlay()}</svg>")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(description)}" class="{name.split("-")[1]}" ', 1)
