"""The figures of losses over time: how the arms learned, and how pretraining went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from pipeline.report.figures.drawing import COLOURS, LABELS, framed, legend_above
from pipeline.report.figures.marks import Chart
from pipeline.report.section_records import ReportedPretraining
from pipeline.report.wording import exact, number
from pipeline.runtime.formatting import readable_count


@dataclass(frozen=True)
class TrialCurve:
    """How one trial of an arm learned: bits per byte of the selection text at each evaluation."""

    name: str  # what tells it from the arm's others, such as "rate 0.001"
    steps: tuple[int, ...]
    bits_per_byte: tuple[float, ...]
    best: int  # index of the best evaluation
    chosen: bool  # it, or its rate, is what is reported


@dataclass(frozen=True)
class ScoredSeed:
    """One seed that is reported: the step of its weights, and bits per byte of the validation text."""

    seed: int
    step: int
    bits_per_byte: float
    refit: bool


Curves = Sequence[TrialCurve]
Scored = Mapping[str, Sequence[ScoredSeed]]


def learning_curves(arms: Mapping[str, Curves], scored: Scored, untrained: Sequence[float], inches: float) -> Chart:
    """Bits per byte of the selection text over steps, one line per trial; the step that was chosen ringed.

    `scored`: arm -> what is reported of it, drawn as diamonds; `untrained`: the zero-shot arm's losses, at step 0.
    """
    chart, (axes,) = framed(inches, 0.52)
    axes.plot([0] * len(untrained), untrained, "D", color=COLOURS["zero_shot"], markersize=4.5)
    tops = list(untrained)
    for arm, curves in arms.items():
        for curve in sorted(curves, key=lambda curve: curve.chosen):  # the chosen one on top
            _trial(axes, arm, curve)
            # The first eighth falls from the loss of random weights: in view it would flatten everything after it.
            tops += curve.bits_per_byte[len(curve.bits_per_byte) // 8 :] if curve.chosen else ()
        axes.plot([], [], color=COLOURS[arm], linewidth=1.6, label=LABELS[arm])
        for seed in scored[arm]:
            axes.plot(seed.step, seed.bits_per_byte, "D", color=COLOURS[arm], markersize=4.5)
            tops.append(seed.bits_per_byte)
    # Nothing is drawn by these two: they put ring and diamond into the legend once, in no arm's colour.
    axes.plot([], [], "o", color=COLOURS["muted"], markersize=7, fillstyle="none", label="chosen on selection text")
    reported = "refits" if all(seed.refit for seeds in scored.values() for seed in seeds) else "same weights"
    axes.plot([], [], "D", color=COLOURS["muted"], markersize=4.5, label=f"{reported}, validation text")
    axes.set_ylim(top=max(tops) * 1.04)
    axes.set(xlabel="step", ylabel="loss, bits per byte")
    legend_above(axes, inches)
    for loss in untrained:
        reading = [f"{LABELS['zero_shot']}, validation text", f"{exact(loss)} bits/byte"]
        chart.mark(axes, [(0, loss)], "zero_shot", reading)
    for arm, curves in arms.items():
        _mark_steps(chart, axes, arm, curves)
        _mark_scored(chart, axes, arm, scored[arm])
    return chart


def _trial(axes: Axes, arm: str, curve: TrialCurve) -> None:
    steps, losses, best, colour = curve.steps, curve.bits_per_byte, curve.best, COLOURS[arm]
    width, alpha = (1.6, 0.9) if curve.chosen else (0.9, 0.4)
    axes.plot(steps, losses, color=colour, linewidth=width, alpha=alpha)
    if curve.chosen:
        axes.plot(steps[best], losses[best], "o", color=colour, markersize=7, fillstyle="none")


def _mark_steps(chart: Chart, axes: Axes, arm: str, curves: Curves) -> None:
    """One mark per step: trials may lie so close that a pointer cannot tell them apart."""
    for step in sorted({step for curve in curves for step in curve.steps}):
        points, lines = [], [f"{LABELS[arm]}, step {step:,}", "selection text, bits/byte"]
        for curve in curves:
            if step in curve.steps:
                at = curve.steps.index(step)
                points.append((step, curve.bits_per_byte[at]))
                best = (", chosen" if curve.chosen else ", its best") if at == curve.best else ""
                lines.append(f"{curve.name}: {number(curve.bits_per_byte[at])}{best}")
        chart.mark(axes, points, arm, lines)


def _mark_scored(chart: Chart, axes: Axes, arm: str, scored: Sequence[ScoredSeed]) -> None:
    for step in sorted({seed.step for seed in scored}):
        seeds = [seed for seed in scored if seed.step == step]
        lines = [f"seed {seed.seed}: {exact(seed.bits_per_byte)}" for seed in seeds]
        what = f"refits to step {step:,}" if seeds[0].refit else f"weights of step {step:,}"
        heading = [f"{LABELS[arm]}, {what}", "validation text, bits/byte"]
        chart.mark(axes, [(step, seed.bits_per_byte) for seed in seeds], arm, heading + lines)


def pretraining(
    train: Sequence[tuple[float, float]],
    validation: Sequence[tuple[float, float]],
    measured: ReportedPretraining,
    inches: float,
) -> Chart:
    """Nats per token over tokens seen, on training batches and on held-out documents; a final gap is spelled out."""
    chart, (axes,) = framed(inches, 0.52)
    batches = _smoothed(train)  # a mark and a vertex for each of a million steps would be a page of megabytes
    axes.plot(*zip(*batches, strict=True), color=COLOURS["muted"], linewidth=1.0, label="training batches")
    if validation:
        style: dict[str, Any] = {"color": COLOURS["finetune"], "linewidth": 1.6, "marker": "o", "markersize": 3}
        axes.plot(*zip(*validation, strict=True), label="held-out documents", **style)
    text = "no held-out part of the corpus" if not validation else ""
    if measured.gap is not None and measured.gap_ci95 is not None:
        low, high = measured.gap_ci95
        text = f"final gap {number(measured.gap)} nats/token\n95% interval {number(low)} to {number(high)}"
    axes.text(0.98, 0.6, text, transform=axes.transAxes, ha="right", va="center", color=COLOURS["ink"])
    # As above, the fall from random weights would flatten the rest: the highest twentieth runs out of view.
    losses = sorted(loss for _, loss in train)
    axes.set_ylim(top=losses[int(len(losses) * 0.95)] * 1.05)
    axes.xaxis.set_major_formatter(lambda tokens, _: f"{tokens / 1e6:g}M")
    axes.set(xlabel="tokens seen", ylabel="loss, nats per token")
    legend_above(axes, inches)
    for name, colour, points in (
        ("Training batches", "muted", batches),
        ("Held-out documents", "finetune", validation),
    ):
        for tokens, loss in points:
            reading = [name, f"{number(loss)} nats/token", f"after {readable_count(tokens)} tokens"]
            chart.mark(axes, [(tokens, loss)], colour, reading)
    return chart


def _smoothed(points: Sequence[tuple[float, float]], most: int = 240) -> list[tuple[float, float]]:
    """At most `most` points, each the mean of a group of neighbours, at the place of the last of them."""
    size = -(-len(points) // most)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(group[-1][0], sum(loss for _, loss in group) / len(group)) for group in groups]
