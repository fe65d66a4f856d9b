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
class SeedCurve:
    """How one seed of an arm learned: bits per byte of the selection text at each evaluation."""

    seed: int
    steps: tuple[int, ...]
    bits_per_byte: tuple[float, ...]
    best: int  # index of the best evaluation


Curves = Sequence[SeedCurve]


def learning_curves(arms: Mapping[str, Curves], validation: Mapping[str, Sequence[float]], inches: float) -> Chart:
    """Bits per byte of the selection text over steps, one line per seed; the best step ringed.

    `validation`: arm -> bits per byte of the validation text per seed, drawn as diamonds at the best steps; the
    zero-shot arm's at step 0.
    """
    chart, (axes,) = framed(inches, 0.52)
    untrained = list(validation.get("zero_shot", ()))
    axes.plot([0] * len(untrained), untrained, "D", color=COLOURS["zero_shot"], markersize=4.5)
    tops = list(untrained)
    for arm, curves in arms.items():
        for curve, diamond in zip(curves, validation[arm], strict=True):
            _seed(axes, arm, curve, diamond, first=curve is curves[0])
            # The first eighth falls from the loss of random weights: in view it would flatten everything after it.
            tops += [diamond, *curve.bits_per_byte[len(curve.bits_per_byte) // 8 :]]
    # Nothing is drawn by these two: they put ring and diamond into the legend once, in no arm's colour.
    axes.plot([], [], "o", color=COLOURS["muted"], markersize=7, fillstyle="none", label="best step, selection text")
    axes.plot([], [], "D", color=COLOURS["muted"], markersize=4.5, label="same weights, validation text")
    axes.set_ylim(top=max(tops) * 1.04)
    axes.set(xlabel="step", ylabel="loss, bits per byte")
    legend_above(axes, inches)
    for loss in untrained:
        reading = [f"{LABELS['zero_shot']}, validation text", f"{exact(loss)} bits/byte"]
        chart.mark(axes, [(0, loss)], "zero_shot", reading)
    for arm, curves in arms.items():
        _mark_steps(chart, axes, arm, curves)
        _mark_validation(chart, axes, arm, curves, validation[arm])
    return chart


def _seed(axes: Axes, arm: str, curve: SeedCurve, validation: float, *, first: bool) -> None:
    steps, losses, best, colour = curve.steps, curve.bits_per_byte, curve.best, COLOURS[arm]
    axes.plot(steps, losses, color=colour, linewidth=1.3, alpha=0.85, label=LABELS[arm] if first else None)
    axes.plot(steps[best], losses[best], "o", color=colour, markersize=7, fillstyle="none")
    axes.plot(steps[best], validation, "D", color=colour, markersize=4.5)


def _mark_steps(chart: Chart, axes: Axes, arm: str, curves: Curves) -> None:
    """One mark per step: the seeds lie so close that a pointer cannot tell them apart."""
    for step in sorted({step for curve in curves for step in curve.steps}):
        points, lines = [], [f"{LABELS[arm]}, step {step:,}", "selection text, bits/byte"]
        for curve in curves:
            if step in curve.steps:
                at = curve.steps.index(step)
                points.append((step, curve.bits_per_byte[at]))
                best = ", its best step" if at == curve.best else ""
                lines.append(f"seed {curve.seed}: {number(curve.bits_per_byte[at])}{best}")
        chart.mark(axes, points, arm, lines)


def _mark_validation(chart: Chart, axes: Axes, arm: str, curves: Curves, validation: Sequence[float]) -> None:
    best = [curve.steps[curve.best] for curve in curves]
    for step in sorted(set(best)):
        seeds = [at for at in range(len(curves)) if best[at] == step]
        lines = [f"seed {curves[at].seed}: {exact(validation[at])}" for at in seeds]
        heading = [f"{LABELS[arm]}, weights of step {step:,}", "validation text, bits/byte"]
        chart.mark(axes, [(step, validation[at]) for at in seeds], arm, heading + lines)


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
