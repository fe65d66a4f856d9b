"""Section `curve`: what finetuning reaches after how much pretraining, and the power law through it.

The law and its sources are in `evaluation/power_law.py`. Its interval repeats the fit on resampled text, the same for
all points, with each point moved by the spread of one seed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpt.counts import flops_per_token
from pipeline.evaluation.bits_per_byte import BitsPerByte
from pipeline.evaluation.intervals import Floats, Losses, text_draws
from pipeline.evaluation.power_law import fitted
from pipeline.report.curve_records import ReportedCurve, ReportedDoubling, ReportedLaw, ReportedPoint
from pipeline.report.finished_run import FinishedRun, PretrainingPoint
from pipeline.report.report_records import ReportedMean
from pipeline.report.run_scores import RunScores
from pipeline.saved_models.weights import load_shape

FEWEST_POINTS = 4  # a law with three free numbers through three points says nothing


def curve_section(run: FinishedRun, scores: RunScores) -> ReportedCurve | None:
    """The points of the curve and the law through them, in bits per byte; None without branches."""
    if not run.points:
        return None
    # Points have one seed each. The finetuned arm has several, at the last point: their spread is taken for every one.
    per_seed = scores.finetune.per_seed()
    deviation = float(per_seed.std(ddof=1)) if len(per_seed) > 1 else 0.0
    tokens = np.array([point.tokens for point in run.points], np.float64)
    losses = [scores.files[point.finetuned.weights] for point in run.points]
    return ReportedCurve(
        points=tuple(_point(point, run, scores) for point in run.points),
        law=law_section(tokens, losses, deviation, scores.bits),
    )


def _point(point: PretrainingPoint, run: FinishedRun, scores: RunScores) -> ReportedPoint:
    flops, bits = flops_per_token(load_shape(run.arms[-1].model_json)), scores.bits
    trial, finetuned = point.finetuned.record, scores.files[point.finetuned.weights]
    best_step = point.finetuned.step
    assert best_step is not None, "a branch keeps the weights of a trial that did not diverge"
    return ReportedPoint(
        tokens=point.tokens,
        flops=flops * (point.tokens + trial.tokens),
        learning_rate=trial.learning_rate,
        best_step=best_step,
        finetune=ReportedMean.of(bits.loss(finetuned)),
        zero_shot=ReportedMean.of(bits.loss(scores.files[point.pretrained])),
        gain=ReportedMean.of(bits.gain(scores.scratch, finetuned)),
    )


def law_section(
    tokens: Floats, losses: Sequence[Losses], seed_deviation: float, bits: BitsPerByte
) -> ReportedLaw | None:
    """The law through the losses at these tokens (points,), and where twice the most of them would lead.

    `seed_deviation` is the standard deviation over seeds, in nats per token. None for few points.
    """
    if len(tokens) < FEWEST_POINTS:
        return None
    means = np.array([side.per_seed().mean() for side in losses]) * bits.factor
    (law,) = fitted(tokens, means[None])
    # One generator for texts and seeds, in this order: the same seed gives the same interval again.
    rng = np.random.default_rng(bits.seed)
    draws = text_draws(losses, resamples=bits.resamples, rng=rng)
    laws = fitted(tokens, (draws + rng.normal(scale=seed_deviation, size=draws.shape)) * bits.factor)
    last, doubled = tokens[-1], 2 * tokens[-1]
    # What the doubling saves is the law's own difference: beside the last point's loss it would hold its residual, too.
    residuals = [law.at(at) - mean for at, mean in zip(tokens, means, strict=True)]
    return ReportedLaw(
        floor=law.floor,
        scale=law.scale,
        exponent=_over_draws(law.exponent, [drawn.exponent for drawn in laws]),
        unit_tokens=law.unit_tokens,
        largest_residual=float(np.abs(residuals).max()),
        next_doubling=ReportedDoubling(
            tokens=int(doubled),
            finetune=_over_draws(law.at(doubled), [drawn.at(doubled) for drawn in laws]),
            saves=_over_draws(law.at(last) - law.at(doubled), [drawn.at(last) - drawn.at(doubled) for drawn in laws]),
        ),
    )


def _over_draws(mean: float, draws: Sequence[float]) -> ReportedMean:
    """A value with the middle 95 % of its values over the draws."""
    low, high = np.quantile(draws, (0.025, 0.975))
    return ReportedMean(mean=mean, ci95=(float(low), float(high)))
