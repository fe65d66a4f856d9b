"""How sure we are of a loss, and of the gain: 95% intervals over the text and over the seeds.

Two things could have come out differently: the text that we happen to score, and the seeds that we train with.

*Text.* Windows of one text are neighbours: a scene that is hard to predict is hard for several windows in a row. So
the bootstrap draws blocks of neighbouring windows instead of single ones, and the text wraps around so that every
window is drawn equally often (Künsch 1989; Politis and Romano 1992). The length of a block is twice the cube root of
the number of windows: the order is that of Hall, Horowitz and Jing (1995), the factor kept coverage at 95% in
simulations where a window resembles its two neighbours. A draw is the ratio of its nats to its tokens. Both arms are
scored on the same windows, so one draw serves both: what makes a passage hard for both cancels in the gain.

*Seeds.* Resampling three seeds gives an interval that is far too narrow: their spread is underestimated by a third,
and its own uncertainty is ignored. Each arm's mean over S seeds moves by its standard error instead, s / sqrt(S), with
S - 1 degrees of freedom; the text's resamples have one less than their blocks. Welch and Satterthwaite (1946) combine
the degrees of freedom, and the sum of all deviations gets the tails of Student's t with them. Text and seeds moving
apart counts what they share twice, which errs on the wide side (Owen and Eckles 2012).

Interval and p-value are read off the same draws. `tests/pipeline/evaluation/test_intervals.py` simulates how often the
interval covers the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Losses:
    """Per-window losses of one arm: nats (seeds, windows) float64, and the tokens scored in each window, (windows,)."""

    nats: Floats
    tokens: NDArray[np.int64]

    def per_seed(self) -> Floats:
        """Nats per token over the whole text, (seeds,) float64."""
        return np.asarray(self.nats.sum(axis=1) / self.tokens.sum())


@dataclass(frozen=True)
class Estimate:
    """A value with its 95% interval and the two-sided p-value against zero, all in one unit."""

    mean: float
    low: float
    high: float
    p_value: float
    per_seed: tuple[float, ...] = ()

    @property
    def ci95(self) -> tuple[float, float]:
        """Both ends of the interval."""
        return self.low, self.high

    def scaled(self, factor: float) -> Estimate:
        """The same estimate in another unit."""
        per_seed = tuple(value * factor for value in self.per_seed)
        return replace(self, mean=self.mean * factor, low=self.low * factor, high=self.high * factor, per_seed=per_seed)


def arm_loss(arm: Losses, *, resamples: int, seed: int) -> Estimate:
    """Nats per token of one arm: the mean over its seeds. One seed: the interval is over the text alone."""
    estimate = _over_text_and_seeds([(1.0, arm)], resamples, seed)
    return replace(estimate, per_seed=tuple(arm.per_seed().tolist()))


@dataclass(frozen=True)
class DocumentLosses:
    """Losses of one model on windows of many documents, and the name of each window's document, (windows,)."""

    losses: Losses
    documents: tuple[str, ...]


@dataclass(frozen=True)
class Spread:
    """How far one training's loss lies from the mean of those that differ in their seed alone."""

    deviation: float  # standard, in nats per token
    degrees: int  # of freedom


def pooled_spread(arms: Sequence[Losses]) -> Spread:
    """The spread over seeds that all these arms share, as an analysis of variance estimates it."""
    per_seed = [losses.per_seed() for losses in arms]
    degrees = sum(len(values) - 1 for values in per_seed)
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in per_seed)
    return Spread(float(np.sqrt(squares / degrees)), degrees)


def gain(scratch: Losses, finetune: Losses, *, resamples: int, seed: int, spread: Spread | None = None) -> Estimate:
    """The first loss minus the second in nats per token, paired by window; of scratch and finetune, or of any two.

    Each side's spread over seeds is estimated from its own, unless a common `spread` is known from more trainings.
    Raises DataError if they were not scored on the same windows.
    """
    if not np.array_equal(scratch.tokens, finetune.tokens):
        raise DataError("The two sides were not scored on the same windows.", remedy="Run the report stage again.")
    return _over_text_and_seeds([(1.0, scratch), (-1.0, finetune)], resamples, seed, spread)


def corrected(p_values: Sequence[float]) -> list[float]:
    """The p-values after Holm (1979), in the same order: each may be compared with 0.05, however many there are."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        # A later p-value is never adjusted to less than an earlier one: the order of the evidence stays.
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def gap(train: DocumentLosses, validation: DocumentLosses, *, resamples: int, seed: int) -> Estimate:
    """Validation minus train loss of one model, in nats per token, from windows of two sets of documents.

    Whole documents are drawn, not windows: the windows of one book are alike, and the interval is about other books.
    """
    rng = np.random.default_rng(seed)
    deviations = [_text_deviation(*_by_document(side), resamples, rng) for side in (train, validation)]
    return _combined(_mean(validation) - _mean(train), deviations, rng)


def documents_loss(side: DocumentLosses, *, resamples: int, seed: int) -> Estimate:
    """Nats per token of one side of the gap, drawing whole documents in the same way."""
    rng = np.random.default_rng(seed)
    return _combined(_mean(side), [_text_deviation(*_by_document(side), resamples, rng)], rng)


def _mean(side: DocumentLosses) -> float:
    return float(side.losses.per_seed().mean())


def text_draws(sides: Sequence[Losses], *, resamples: int, rng: np.random.Generator) -> Floats:
    """Nats per token of each side on resampled texts, (resamples, sides); a draw is the same text for all of them."""
    blocks = [_blocks(side.nats.mean(axis=0), side.tokens) for side in sides]
    # All sides were scored on the same windows, so the tokens of a block and the number drawn are those of any side.
    _, tokens, drawn = blocks[0]
    chosen = rng.integers(len(tokens), size=(resamples, drawn))
    counted = tokens[chosen].sum(axis=1)
    return np.stack([nats[chosen].sum(axis=1) / counted for nats, _, _ in blocks], axis=1)


def block_windows(num_windows: int) -> int:
    """How many neighbouring windows are drawn together; at least four blocks make a text."""
    return max(1, min(round(2 * float(np.cbrt(num_windows))), num_windows // 4))


@dataclass(frozen=True)
class _Deviation:
    """How far one source of chance may have moved a value: draws (resamples,) and their degrees of freedom."""

    draws: Floats
    degrees: int


def _over_text_and_seeds(
    arms: Sequence[tuple[float, Losses]], resamples: int, seed: int, spread: Spread | None = None
) -> Estimate:
    rng = np.random.default_rng(seed)
    tokens = arms[0][1].tokens
    nats = sum((sign * arm.nats.mean(axis=0) for sign, arm in arms), start=np.zeros(len(tokens)))
    # The differences are resampled, not each arm: that is the pairing by window.
    deviations = [_text_deviation(*_blocks(nats, tokens), resamples, rng)]
    seeds = [arm.per_seed() for _, arm in arms]
    if spread is not None:
        deviations.append(_common_deviation([len(values) for values in seeds], spread, resamples, rng))
    else:
        # One seed has no spread to estimate: the interval is then over the text alone, and a caveat says so.
        deviations += [_seed_deviation(values, resamples, rng) for values in seeds if len(values) > 1]
    return _combined(float(nats.sum() / tokens.sum()), deviations, rng)


def _blocks(nats: Floats, tokens: NDArray[np.int64]) -> tuple[Floats, Floats, int]:
    """Nats and tokens of the block that begins at each window, wrapping around, and how many blocks make a text."""
    if len(nats) < 2:
        raise DataError(
            f"The validation text of {int(tokens.sum())} tokens makes {len(nats)} window; an interval needs two.",
            remedy="Leave report.stride out, or raise target.validation.",
        )
    length = block_windows(len(nats))
    # Blocks wrap around: without that the windows at both ends would be drawn less often than the others.
    index = (np.arange(len(nats))[:, None] + np.arange(length)) % len(nats)
    block_nats, block_tokens = nats[index].sum(axis=1), tokens[index].sum(axis=1, dtype=np.float64)
    return block_nats, block_tokens, max(2, len(nats) // length)


def _by_document(side: DocumentLosses) -> tuple[Floats, Floats, int]:
    """Nats and tokens of each document, and their number; of each window, if all are of one document."""
    names, index = np.unique(np.asarray(side.documents), return_inverse=True)
    if len(names) < 2:
        # Drawing the one document again and again would give an interval of no width.
        names, index = np.arange(len(side.documents)), np.arange(len(side.documents))
    if len(names) < 2:
        raise DataError(
            f"The pretraining gap was measured on {len(names)} window; its interval needs two.",
            remedy="Raise pretrain.evaluate_tokens to two contexts or more.",
        )
    nats = np.bincount(index, weights=side.losses.nats.mean(axis=0))
    tokens = np.bincount(index, weights=side.losses.tokens.astype(np.float64))
    return np.asarray(nats, np.float64), np.asarray(tokens, np.float64), len(names)


def _text_deviation(nats: Floats, tokens: Floats, drawn: int, resamples: int, rng: np.random.Generator) -> _Deviation:
    """Nats per token of `drawn` units sampled with replacement, less that of all units."""
    chosen = rng.integers(len(nats), size=(resamples, drawn))
    draws = nats[chosen].sum(axis=1) / tokens[chosen].sum(axis=1) - nats.sum() / tokens.sum()
    # Resampling n units understates the variance of their mean by (n - 1) / n.
    return _Deviation(draws * np.sqrt(drawn / (drawn - 1)), drawn - 1)


def _seed_deviation(per_seed: Floats, resamples: int, rng: np.random.Generator) -> _Deviation:
    """How far the mean over seeds may be off."""
    error = per_seed.std(ddof=1) / np.sqrt(len(per_seed))
    return _Deviation(rng.normal(scale=error, size=resamples), len(per_seed) - 1)


def _common_deviation(
    nums_seeds: Sequence[int], spread: Spread, resamples: int, rng: np.random.Generator
) -> _Deviation:
    """How far a difference of means may be off if all trainings have the same spread."""
    error = spread.deviation * np.sqrt(sum(1 / num for num in nums_seeds))
    return _Deviation(rng.normal(scale=error, size=resamples), spread.degrees)


def _combined(mean: float, deviations: Sequence[_Deviation], rng: np.random.Generator) -> Estimate:
    """Add independent deviations and give the sum Student's tails with Welch and Satterthwaite's degrees of freedom."""
    total = np.asarray(sum(part.draws for part in deviations))
    variances = [(float(part.draws.var()), part.degrees) for part in deviations]
    uncertainty = sum(variance**2 / degrees for variance, degrees in variances)
    # No uncertainty: every draw is the mean itself, and there is no tail to widen.
    if uncertainty > 0:
        degrees = sum(variance for variance, _ in variances) ** 2 / uncertainty
        # A normal over the root of a chi-square by its degrees of freedom has Student's t.
        total = total * np.sqrt(degrees / rng.chisquare(degrees, size=len(total)))
    draws = mean + total
    low, high = np.quantile(draws, (0.025, 0.975))
    tail = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    # One is added above and below, so that a finite number of draws never claims the impossible.
    return Estimate(mean, float(low), float(high), min(1.0, 2 * (tail + 1) / (len(draws) + 1)))
