"""The figures of losses over scale: how much pretraining helps as there is more of it, and over the model's size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from pipeline.report.curve_records import ReportedCurve, ReportedLaw, ReportedPoint
from pipeline.report.figures.drawing import COLOURS, LABELS, framed, is_narrow, legend_above
from pipeline.report.figures.marks import Chart
from pipeline.report.report_records import ReportedLoss, ReportedMean
from pipeline.report.section_records import ReportedSize
from pipeline.report.wording import exact
from pipeline.runtime.formatting import readable_count

LAW_STEPS = 60  # straight pieces that the law is drawn with


def gain_curve(curve: ReportedCurve, scratch: ReportedLoss, inches: float) -> Chart:
    """Validation loss over pretraining tokens, before and after finetuning, with the law and the next doubling.

    The control, `scratch`, is a line across; the upper axis of the wide figure is the arithmetic of pretraining and
    finetuning.
    """
    chart, (axes,) = framed(inches, 1.25 if is_narrow(inches) else 0.66)
    axes.set_xscale("log")
    axes.axhspan(*scratch.ci95, color=COLOURS["scratch"], alpha=0.12, linewidth=0)
    axes.axhline(scratch.mean, color=COLOURS["scratch"], linewidth=1.3, label="from scratch, no pretraining")
    for arm in ("zero_shot", "finetune"):
        for at, point in enumerate(curve.points):
            label = LABELS[arm] if at == 0 else None
            _with_interval(axes, point.tokens, _loss(point, arm), COLOURS[arm], label=label)
    if curve.law:
        _law(axes, curve.points, curve.law)
    axes.xaxis.set_major_formatter(lambda tokens, _: readable_count(tokens))
    axes.xaxis.set_minor_formatter(lambda *_: "")  # its numbers would run into each other
    axes.set(xlabel="pretraining tokens", ylabel="validation loss, bits per byte")
    if not is_narrow(inches):
        _arithmetic_above(axes, curve.points)
    chart.legend(loc="outside lower left", ncols=1 if is_narrow(inches) else 3)  # no curve can run under it there
    _mark_points(chart, axes, curve)
    return chart


def _mark_points(chart: Chart, axes: Axes, curve: ReportedCurve) -> None:
    for point in curve.points:
        for arm in ("zero_shot", "finetune"):
            chart.mark(axes, [(point.tokens, _loss(point, arm).mean)], arm, _point_reading(point, arm))
    if curve.law:
        ahead = curve.law.next_doubling
        lines = [f"Next doubling, {readable_count(ahead.tokens)} tokens", "extrapolated, not measured"]
        place = [(ahead.tokens, ahead.finetune.mean)]
        chart.mark(axes, place, "finetune", lines + _value_reading(ahead.finetune))


def size_curve(sizes: Sequence[ReportedSize], inches: float) -> Chart:
    """Validation loss over the model's parameters: from scratch, pretrained only, and finetuned."""
    chart, (axes,) = framed(inches, 0.55)
    axes.set_xscale("log")
    places = [size.params for size in sizes]
    for arm in ("scratch", "zero_shot", "finetune"):
        axes.plot(places, [_loss(size, arm).mean for size in sizes], color=COLOURS[arm], linewidth=1.0, alpha=0.6)
        for at, size in enumerate(sizes):
            _with_interval(axes, size.params, _loss(size, arm), COLOURS[arm], label=LABELS[arm] if at == 0 else None)
    # A logarithmic axis labels powers of ten, of which there may be none between the sizes: label these instead.
    for set_formatter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        set_formatter(lambda number, _: readable_count(number) if number in places else "")
    axes.set_xticks(places)
    axes.set(xlabel="parameters", ylabel="validation loss, bits per byte")
    legend_above(axes, inches)
    for size in sizes:
        for arm in ("scratch", "zero_shot", "finetune"):
            heading = f"{LABELS[arm]}, {readable_count(size.params)} parameters"
            loss = _loss(size, arm)
            chart.mark(axes, [(size.params, loss.mean)], arm, [heading, *_value_reading(loss)])
    return chart


def _loss(entry: ReportedPoint | ReportedSize, arm: str) -> ReportedMean:
    """The loss of an arm, which is a field of that name."""
    loss: ReportedMean = getattr(entry, arm)
    return loss


def _with_interval(axes: Axes, at: float, value: ReportedMean, colour: str, **style: Any) -> None:
    axes.plot([at, at], value.ci95, color=colour, linewidth=1.6, solid_capstyle="round")
    axes.plot(at, value.mean, **{"marker": "o", "linestyle": "", "markersize": 5, "color": colour, **style})


def _law(axes: Axes, points: Sequence[ReportedPoint], law: ReportedLaw) -> None:
    ahead = law.next_doubling
    first, last = points[0].tokens, ahead.tokens
    # Evenly spaced on the logarithmic axis.
    tokens = [first * (last / first) ** (step / LAW_STEPS) for step in range(LAW_STEPS + 1)]
    losses = [law.floor + law.scale * (at / law.unit_tokens) ** -law.exponent.mean for at in tokens]
    axes.plot(tokens, losses, "--", color=COLOURS["finetune"], linewidth=1.1, label="fitted power law")
    style = {"fillstyle": "none", "label": "next doubling, extrapolated"}
    _with_interval(axes, ahead.tokens, ahead.finetune, COLOURS["finetune"], **style)


def _arithmetic_above(axes: Axes, points: Sequence[ReportedPoint]) -> None:
    """Ticks of the upper axis at the points, in operations."""
    upper = axes.secondary_xaxis("top")
    upper.set_xticks([point.tokens for point in points], [f"{point.flops:.1e}" for point in points], fontsize=7)
    upper.set_xticks([], minor=True)
    upper.set_xlabel("floating-point operations of pretraining and finetuning", fontsize=8)


def _point_reading(point: ReportedPoint, arm: str) -> list[str]:
    heading = f"{LABELS[arm]}, after {readable_count(point.tokens)} tokens"
    gain = [f"gain {exact(point.gain.mean)} bits/byte"] if arm == "finetune" else []
    return [heading, *_value_reading(_loss(point, arm)), *gain]


def _value_reading(value: ReportedMean) -> list[str]:
    low, high = value.ci95
    return [f"{exact(value.mean)} bits/byte", f"95% interval {exact(low)} to {exact(high)}"]
