"""The page of an ablation: what helps, what hurts, what is not shown, and how that was found out.

OUT/ablation.md, ablation.json, ablation.png     the page, its figures as records, its picture
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.experiments.ablation.effects import RESAMPLES, Effect, Finding, Findings
from pipeline.experiments.measurements import machine, record, today
from pipeline.report.figures.drawing import COLOURS, write_png
from pipeline.runtime.files import environment_faults, write_text
from pipeline.runtime.formatting import counted, readable_bytes, readable_count

HEAD = (
    "change",
    "matched tokens, bits/byte (95% interval)",
    "p, corrected",
    "verdict",
    "matched time, bits/byte (95% interval)",
    "p, corrected",
    "verdict",
    "speed",
    "memory",
    "parameters",
)
METHOD = """Each change is made alone, in an ordinary config, trained by the ordinary stage with the same seeds as the
baseline, so on the same batches. The width of the feed-forward layers is set so that the parameters match, in steps of
eight; where that cannot be done the table says so.

*Matched tokens*: as many tokens as the baseline. *Matched time*: as many as the change manages in the baseline's time,
by the speed of one training step, timed in turns with all others (the fastest of some turns; processor time of one core
on a CPU). Where the speeds differ by at most 2 %, the same runs answer both questions.

The loss is that of the target's selection text, which is neither trained on nor reported as a result, so choosing a
feature here does not flatter the gain that is reported elsewhere. Memory is the peak of the largest process.

The interval covers the text, resampled {resamples} times in runs of neighbouring windows for both sides together, and
the seeds. {num_seeds} seeds say little about their own spread, so one spread is estimated from all trainings together
({spread} bits/byte); this assumes that the changes do not alter it. The p-values are corrected for all {tries}
comparisons of this page (Holm). The verdict is helps or hurts where the corrected p-value is below 0.05, and not shown
otherwise, even where the interval of that line alone excludes zero.

One learning rate serves all changes, unless a line says otherwise: a change that would prefer another one is not seen
at its best. What helps a model of this size for so few tokens need not help a larger one for longer.
"""
VERDICT_COLOURS = {"helps": COLOURS["scratch"], "hurts": COLOURS["finetune"], "not shown": COLOURS["muted"]}


def write(findings: Findings, out: Path, command: str) -> Path:
    """Write the page, its records and its picture to a folder, created if need be. Returns the page's path."""
    page = out / "ablation.md"
    with environment_faults(out, remedy="Give another --out."):
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(list(records(findings, command)), indent=1, ensure_ascii=False)
        write_text(out / "ablation.json", text + "\n")
        write_text(page, as_page(findings, command))
        write_png(out / "ablation.png", lambda inches: picture(findings, inches))
    return page


def as_page(findings: Findings, command: str) -> str:
    """The whole page in Markdown; its picture lies beside it."""
    rows = [HEAD, ["---"] * len(HEAD), *(row(finding) for finding in findings.changes)]
    return "\n".join(
        [
            "# Does one more feature help?",
            "",
            headline(findings),
            "",
            "![Change of the loss by each feature, with its 95% interval](ablation.png)",
            "",
            baseline(findings),
            "",
            *(f"| {' | '.join(cells)} |" for cells in rows),
            "",
            f"`{command}` at commit `{findings.git_commit}`, {today()}, on {machine()}.",
            "",
            "## How it was measured",
            "",
            method(findings),
        ]
    )


def headline(findings: Findings) -> str:
    """What is shown at matched time, in a sentence or two."""
    # At matched time: a change that needs more time than it is worth does not help.
    by_verdict = {
        verdict: [finding.name for finding in findings.changes if finding.by_time.verdict == verdict]
        for verdict in ("helps", "hurts", "not shown")
    }
    named = [
        f"{count_and_verb(names, verdict)}: {', '.join(names)}."
        for verdict, names in by_verdict.items()
        if names and verdict != "not shown"
    ]
    rest = by_verdict["not shown"]
    quiet = f"Of {counted(len(rest), 'other')}, no effect is shown." if named else "No effect is shown of any change."
    return " ".join(["In the same time:", *named, quiet] if named else [quiet])


def count_and_verb(names: Sequence[str], verdict: str) -> str:
    """Such as "1 change helps" or "2 changes help"."""
    verb = verdict if len(names) == 1 else verdict.removesuffix("s")
    return f"{counted(len(names), 'change')} {verb}"


def baseline(findings: Findings) -> str:
    """The baseline's loss, size and speed in two sentences."""
    loss = findings.baseline
    seeds = ", ".join(f"{value:.4f}" for value in loss.per_seed)
    return (
        f"The baseline reaches {loss.mean:.4f} bits/byte of the selection text (seeds: {seeds}) with "
        f"{readable_count(findings.parameters)} parameters after {readable_count(findings.baseline_tokens)} tokens, at "
        f"{findings.tokens_per_second:,.0f} tokens/s of one core or device. Below zero is better than the baseline."
    )


def row(finding: Finding) -> list[str]:
    """The cells of one change below `HEAD`, as the page and the terminal show them."""
    time = _effect(finding.by_time) if not finding.same_run else ["the same runs", "", finding.by_time.verdict]
    return [
        finding.name,
        *_effect(finding.by_tokens),
        *time,
        f"{finding.speed_ratio:.2f} x",
        readable_bytes(finding.peak_memory_bytes),
        # Within 1 % nobody would ask whether the parameters made the difference.
        readable_count(finding.parameters) + ("" if abs(finding.parameter_ratio - 1) < 0.01 else ", **not matched**"),
    ]


def _effect(effect: Effect) -> list[str]:
    change = effect.bits_per_byte
    return [
        f"{change.mean:+.4f} ({change.low:+.4f} to {change.high:+.4f})",
        f"{effect.corrected_p_value:.2g}",
        effect.verdict,
    ]


def method(findings: Findings) -> str:
    """How it was measured, with this ablation's numbers."""
    return METHOD.format(
        resamples=f"{RESAMPLES:,}",
        num_seeds=findings.num_seeds,
        spread=f"{findings.spread_bits_per_byte:.4f}",
        tries=findings.tries,
    )


def records(findings: Findings, command: str) -> Iterator[dict[str, Any]]:
    """The figures of the page: each change's effect under both matchings, and its speed."""
    for finding in findings.changes:
        for matching, effect in (("tokens", finding.by_tokens), ("time", finding.by_time)):
            change = effect.bits_per_byte
            yield record(
                {
                    "name": f"{finding.name}, change at matched {matching}",
                    "value": round(change.mean, 5),
                    "unit": "bits/byte",
                    "target": None,
                    "commit": findings.git_commit,
                    "ci95": [round(change.low, 5), round(change.high, 5)],
                    "per_seed": [round(value, 5) for value in change.per_seed],
                    "p_value": round(change.p_value, 6),
                    "corrected_p_value": round(effect.corrected_p_value, 6),
                    "verdict": effect.verdict,
                    "tokens": effect.tokens,
                    "parameters": finding.parameters,
                    "changes": finding.changes,
                },
                command,
            )
        speed = {"name": f"{finding.name}, speed", "value": round(finding.speed_ratio, 3), "unit": "x", "target": None}
        speed |= {"commit": findings.git_commit, "tokens_per_second": round(finding.tokens_per_second)}
        yield record(speed, command)


def picture(findings: Findings, inches: float) -> Figure:
    """One row per change: its effect at matched time, filled, and at matched tokens where that differs, hollow."""
    figure = Figure(figsize=(inches, 0.42 * len(findings.changes) + 1.1), layout="constrained")
    axes = figure.subplots()
    for height, finding in enumerate(findings.changes):
        _line(axes, height, finding.by_time, filled=True)
        if not finding.same_run:
            _line(axes, height + 0.28, finding.by_tokens, filled=False)  # just below, in the same row
    axes.axvline(0, color=COLOURS["ink"], linewidth=1)
    axes.set_yticks(range(len(findings.changes)), [finding.name for finding in findings.changes])
    axes.set_ylim(len(findings.changes) - 0.4, -0.6)  # downwards: the best change is the first, so on top
    axes.set_xlabel("change of the selection loss, bits per byte: left of 0 is better")
    # Empty lines for the legend: what is filled says the matching, the colour says the verdict.
    axes.plot([], [], "o", color=COLOURS["muted"], label="in the same time")
    axes.plot([], [], "o", color=COLOURS["muted"], fillstyle="none", label="with the same tokens, where that differs")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
    return figure


def _line(axes: Axes, height: float, effect: Effect, *, filled: bool) -> None:
    change, colour = effect.bits_per_byte, VERDICT_COLOURS[effect.verdict]
    axes.plot([change.low, change.high], [height] * 2, color=colour, linewidth=2.2 if filled else 1.1)
    style: dict[str, Any] = {"color": colour, "markersize": 6, "fillstyle": "full" if filled else "none"}
    axes.plot(change.mean, height, "o", **style)
