"""The figures of losses over time: how the arms learned, and how pretraining went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from pipeline.report.figures.drawing import COLOURS, LABELS, framed, is_narrow, legend_above
from pipeline.report.figures.marks import Chart
from pipeline.report.page.wording import exact, number
from pipeline.runtime.formatting import readable_count

Curves = Sequence[Mapping[str, Any]]  # one per seed: {seed, steps, bits_per_byte, best}; `best` an index into both


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
            losses = curve["bits_per_byte"]
            tops += [diamond, *losses[len(losses) // 8 :]]
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


def _seed(axes: Axes, arm: str, curve: Mapping[str, Any], validation: float, *, first: bool) -> None:
    steps, losses, best, colour = curve["steps"], curve["bits_per_byte"], curve["best"], COLOURS[arm]
    axes.plot(steps, losses, color=colour, linewidth=1.3, alpha=0.85, label=LABELS[arm] if first else None)
    axes.plot(steps[best], losses[best], "o", color=colour, markersize=7, fillstyle="none")
    axes.plot(steps[best], validation, "D", color=colour, markersize=4.5)


def _mark_steps(chart: Chart, axes: Axes, arm: str, curves: Curves) -> None:
    """One mark per step: the seeds lie so close that a pointer cannot tell them apart."""
    for step in sorted({step for curve in curves for step in curve["steps"]}):
        points, lines = [], [f"{LABELS[arm]}, step {step:,}", "selection text, bits/byte"]
        for curve in curves:
            if step in curve["steps"]:
                at = curve["steps"].index(step)
                points.append((step, curve["bits_per_byte"][at]))
                best = ", its best step" if at == curve["best"] else ""
                lines.append(f"seed {curve['seed']}: {number(curve['bits_per_byte'][at])}{best}")
        chart.mark(axes, points, arm, lines)


def _mark_validation(chart: Chart, axes: Axes, arm: str, curves: Curves, validation: Sequence[float]) -> None:
    best = [curve["steps"][curve["best"]] for curve in curves]
    for step in sorted(set(best)):
        seeds = [at for at in range(len(curves)) if best[at] == step]
        lines = [f"seed {curves[at]['seed']}: {exact(validation[at])}" for at in seeds]
        heading = [f"{LABELS[arm]}, weights of step {step:,}", "validation text, bits/byte"]
        chart.mark(axes, [(step, validation[at]) for at in seeds], arm, heading + lines)


def pretraining(
    train: Sequence[tuple[float, float]],
    validation: Sequence[tuple[float, float]],
    gap: Mapping[str, Any],
    inches: float,
) -> Chart:
    """Nats per token over tokens seen, on the training batches and on documents held out; the final gap spelled out."""
    chart, (axes,) = framed(inches, 0.52)
    batches = _smoothed(train)
    axes.plot(*zip(*batches, strict=True), color=COLOURS["muted"], linewidth=1.0, label="training batches")
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
    legend_above(axes, inches)
    for name, colour, points in (
        ("Training batches", "muted", batches),
        ("Held-out documents", "finetune", validation),
    ):
        for tokens, loss in points:
            reading = [name, f"{number(loss)} nats/token", f"after {readable_count(tokens)} tokens"]
            chart.mark(axes, [(tokens, loss)], colour, reading)
    return chart


def gain_curve(report: Mapping[str, Any], inches: float) -> Chart:
    """Validation loss over pretraining tokens, before and after finetuning, with the law and the next doubling.

    The control is a line across; the upper axis of the wide figure is the arithmetic of pretraining and finetuning.
    """
    chart, (axes,) = framed(inches, 1.25 if is_narrow(inches) else 0.66)
    curve, scratch = report["curve"], report["arms"]["scratch"]["val_bits_per_byte"]
    points, law = curve["points"], curve["law"]
    axes.set_xscale("log")
    axes.axhspan(*scratch["ci95"], color=COLOURS["scratch"], alpha=0.12, linewidth=0)
    axes.axhline(scratch["mean"], color=COLOURS["scratch"], linewidth=1.3, label="from scratch, no pretraining")
    for arm in ("zero_shot", "finetune"):
        for at, point in enumerate(points):
            label = LABELS[arm] if at == 0 else None
            _with_interval(axes, point["tokens"], point[arm], COLOURS[arm], label=label)
    if law:
        _law(axes, points, law)
    axes.xaxis.set_major_formatter(lambda tokens, _: readable_count(tokens))
    axes.xaxis.set_minor_formatter(lambda *_: "")
    axes.set(xlabel="pretraining tokens", ylabel="validation loss, bits per byte")
    if not is_narrow(inches):
        _arithmetic_above(axes, points)
    chart.legend(loc="outside lower left", ncols=1 if is_narrow(inches) else 3)  # no curve can run under it there
    for point in points:
        for arm in ("zero_shot", "finetune"):
            chart.mark(axes, [(point["tokens"], point[arm]["mean"])], arm, _point_reading(point, arm))
    if law:
        ahead = law["next_doubling"]
        lines = [f"Next doubling, {readable_count(ahead['tokens'])} tokens", "extrapolated, not measured"]
        place = [(ahead["tokens"], ahead["finetune"]["mean"])]
        chart.mark(axes, place, "finetune", lines + _value_reading(ahead["finetune"]))
    return chart


def size_curve(report: Mapping[str, Any], inches: float) -> Chart:
    """Validation loss over the model's parameters, from scratch and finetuned."""
    chart, (axes,) = framed(inches, 0.55)
    axes.set_xscale("log")
    sizes = report["sizes"]
    for arm in ("scratch", "zero_shot", "finetune"):
        places = [one["params"] for one in sizes]
        axes.plot(places, [one[arm]["mean"] for one in sizes], color=COLOURS[arm], linewidth=1.0, alpha=0.6)
        for at, one in enumerate(sizes):
            _with_interval(axes, one["params"], one[arm], COLOURS[arm], label=LABELS[arm] if at == 0 else None)
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis(lambda number, _: readable_count(number) if number in places else "")
    axes.set_xticks(places)
    axes.set(xlabel="parameters", ylabel="validation loss, bits per byte")
    legend_above(axes, inches)
    for one in sizes:
        for arm in ("scratch", "zero_shot", "finetune"):
            heading = f"{LABELS[arm]}, {readable_count(one['params'])} parameters"
            chart.mark(axes, [(one["params"], one[arm]["mean"])], arm, [heading, *_value_reading(one[arm])])
    return chart


def _with_interval(axes: Axes, at: float, value: Mapping[str, Any], colour: str, **style: Any) -> None:
    axes.plot([at, at], value["ci95"], color=colour, linewidth=1.6, solid_capstyle="round")
    axes.plot(at, value["mean"], **{"marker": "o", "linestyle": "", "markersize": 5, "color": colour, **style})


def _law(axes: Axes, points: Sequence[Mapping[str, Any]], law: Mapping[str, Any]) -> None:
    ahead = law["next_doubling"]
    first, last = points[0]["tokens"], ahead["tokens"]
    tokens = [first * (last / first) ** (step / 60) for step in range(61)]
    exponent, unit = law["exponent"]["mean"], law["unit_tokens"]
    losses = [law["floor"] + law["scale"] * (at / unit) ** -exponent for at in tokens]
    axes.plot(tokens, losses, "--", color=COLOURS["finetune"], linewidth=1.1, label="fitted power law")
    style = {"fillstyle": "none", "label": "next doubling, extrapolated"}
    _with_interval(axes, ahead["tokens"], ahead["finetune"], COLOURS["finetune"], **style)


def _arithmetic_above(axes: Axes, points: Sequence[Mapping[str, Any]]) -> None:
    """Ticks of the upper axis at the points, in operations."""
    upper = axes.secondary_xaxis("top")
    upper.set_xticks([point["tokens"] for point in points], [f"{point['flops']:.1e}" for point in points], fontsize=7)
    upper.set_xticks([], minor=True)
    upper.set_xlabel("floating-point operations of pretraining and finetuning", fontsize=8)


def _point_reading(point: Mapping[str, Any], arm: str) -> list[str]:
    heading = f"{LABELS[arm]}, after {readable_count(point['tokens'])} tokens"
    gain = [f"gain {exact(point['gain']['mean'])} bits/byte"] if arm == "finetune" else []
    return [heading, *_value_reading(point[arm]), *gain]


def _value_reading(value: Mapping[str, Any]) -> list[str]:
    low, high = value["ci95"]
    return [f"{exact(value['mean'])} bits/byte", f"95% interval {exact(low)} to {exact(high)}"]


def _smoothed(points: Sequence[tuple[float, float]], most: int = 240) -> list[tuple[float, float]]:
    """At most `most` points, each the mean of its neighbours."""
    size = -(-len(points) // most)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(group[-1][0], sum(loss for _, loss in group) / len(group)) for group in groups]
