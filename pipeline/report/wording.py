"""The report's answer in words: numbers as its texts print them, the headline, and the alarms above it."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.report.report_json import SIGNIFICANT_DIGITS, Report
from pipeline.report.report_records import ReportedMean
from pipeline.report.section_records import ReportedTarget

STAND_IN = "installed text"  # the origin of a target or corpus if no source that was asked for could be read


def target_title(target: ReportedTarget) -> str:
    """The target's name as a sentence says it; a stand-in is called one."""
    if target.origin == STAND_IN:
        return "a stand-in text"
    return "Tiny Shakespeare" if target.name == "tiny-shakespeare" else target.name


class Headline(NamedTuple):
    """The answer: the claim, with number, unit and target, and how sure it is."""

    claim: str
    certainty: str

    def __str__(self) -> str:
        return f"{self.claim} ({self.certainty})."


def headline(report: Report) -> Headline:
    """The answer in one sentence."""
    title = target_title(report.target)
    if report.gain is None:
        loss = report.arms.scratch.val_bits_per_byte
        reached = f"Trained from scratch, the model reaches {loss.mean:.3f} bits per byte on {title}"
        return Headline(reached, f"{interval(loss)}; nothing was pretrained, so there is no gain to report")
    gain = report.gain.bits_per_byte
    amount = f"{abs(gain.mean):.3f} bits per byte"
    # The claim follows the interval alone; a mean above zero whose interval includes it claims nothing.
    if report.gain.helps:
        return Headline(f"Pretraining helps on {title}: it saves {amount}", interval(gain))
    if gain.ci95[1] < 0:
        return Headline(f"Pretraining hurts on {title}: it costs {amount}", f"gain {interval(gain)}")
    return Headline(f"No gain shown on {title}: {number(gain.mean)} bits per byte", f"{interval(gain)} includes zero")


def interval(value: ReportedMean) -> str:
    """The 95% interval in words, without its unit."""
    low, high = value.ci95
    return f"95% interval {number(low)} to {number(high)}"


def number(value: float) -> str:
    """Three decimals, which is finer than any interval so far, and a minus instead of a hyphen."""
    return f"{value:.3f}".replace("-", "\N{MINUS SIGN}")


def exact(value: float) -> str:
    """Every digit that report.json keeps, and a minus instead of a hyphen."""
    return f"{value:.{SIGNIFICANT_DIGITS}g}".replace("-", "\N{MINUS SIGN}")


def alarms(report: Report) -> list[str]:
    """What a reader must know before the number: stand-ins, validation text left in the corpus, failed controls."""
    lines = []
    if report.target.origin == STAND_IN:
        lines.append(
            f"The target is not what was asked for but a stand-in, {report.target.name}: text that every "
            "installation has. This page shows that the pipeline runs; its numbers compare with nothing else."
        )
    if report.contamination and report.contamination.corpus_origin == STAND_IN:
        lines.append("The corpus is a stand-in as well: docstrings of the installed packages.")
    # Zero is as it should be, and None means that nothing was counted: neither is an alarm.
    if report.contamination and report.contamination.val_ngrams_left_in_shards:
        left = report.contamination.val_ngrams_left_in_shards
        lines.append(
            f"{left:,} n-grams of the validation text are still in the training shards; the gain may be memory."
        )
    # An open model's training text is hardly ever known in full, so this one is raised for every import.
    if report.imported:
        lines.append(
            "The pretrained weights are somebody else's; whether they have seen the validation text is unknown."
        )
    failed = [name.replace("_", " ") for name, held in report.controls.by_name().items() if not held]
    if failed:
        lines.append(f"Controls that did not hold: {', '.join(failed)}.")
    return lines
