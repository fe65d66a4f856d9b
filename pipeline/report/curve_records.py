"""The records of the gain over pretraining tokens in `report.json`; see `section_records` for their contract."""

from __future__ import annotations

from pipeline.report.report_records import ReportedMean, ReportRecord


class ReportedPoint(ReportRecord):
    """One length of pretraining, finetuned on the first seed; `flops` are those of both."""

    tokens: int
    flops: float
    learning_rate: float
    best_step: int
    finetune: ReportedMean
    zero_shot: ReportedMean
    gain: ReportedMean


class ReportedDoubling(ReportRecord):
    """Where the law leads with twice the pretraining tokens: the finetuned loss, and how much lower that would be."""

    tokens: int
    finetune: ReportedMean  # extrapolated, not measured
    saves: ReportedMean  # less than the law itself has for `unit_tokens`, not than the last point


class ReportedLaw(ReportRecord):
    """The fitted law: floor + scale * (tokens / unit_tokens) ** -exponent, in bits per byte."""

    floor: float
    scale: float
    exponent: ReportedMean
    unit_tokens: float  # those of the longest pretraining
    largest_residual: float  # the farthest point from the law
    next_doubling: ReportedDoubling


class ReportedCurve(ReportRecord):
    """The gain over pretraining tokens; no law through fewer than four points."""

    points: tuple[ReportedPoint, ...]
    law: ReportedLaw | None
