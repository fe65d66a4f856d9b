"""What an ablation shows: each change's effect on the loss, how sure that is, and a verdict that follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pipeline.evaluation.intervals import Estimate, Spread, corrected, gain, pooled_spread
from pipeline.experiments.ablation.ablate import AblationResults, ChangeResult, Trained

RESAMPLES = 20_000
LEVEL = 0.05
Verdict = Literal["helps", "hurts", "not shown"]


@dataclass(frozen=True)
class Effect:
    """The change in bits per byte (below zero is better), with its 95 % interval and p-values."""

    tokens: int
    bits_per_byte: Estimate
    corrected_p_value: float

    @property
    def verdict(self) -> Verdict:
        """From the corrected p-value: an interval that excludes zero is not enough where many were tried."""
        if self.corrected_p_value >= LEVEL:
            return "not shown"
        return "helps" if self.bits_per_byte.mean < 0 else "hurts"


@dataclass(frozen=True)
class Finding:
    """One change under both matchings. Ratios are to the baseline; `by_time` equals `by_tokens` at equal speed."""

    name: str
    changes: dict[str, Any]
    parameters: int
    parameter_ratio: float
    tokens_per_second: float
    speed_ratio: float
    peak_memory_bytes: int
    by_tokens: Effect
    by_time: Effect
    same_run: bool  # one training answers both questions


@dataclass(frozen=True)
class Findings:
    """The baseline's loss and every change, the best one under matched time first."""

    baseline: Estimate  # bits per byte
    baseline_tokens: int
    parameters: int
    tokens_per_second: float
    peak_memory_bytes: int
    num_seeds: int
    tries: int
    spread_bits_per_byte: float  # standard deviation of one seed
    changes: tuple[Finding, ...]


def findings(ablation: AblationResults) -> Findings:
    """Compare every variant with the baseline, and correct the p-values for how many comparisons were made."""
    baseline, *changed = ablation.outcomes
    trainings = [one for kind in ablation.outcomes for one in (kind.by_tokens, kind.by_time) if one is not None]
    spread = pooled_spread([training.losses for training in trainings])
    estimates = [_change(baseline.by_tokens, training, spread, ablation.bits) for training in trainings[1:]]
    p_values = corrected([estimate.p_value for estimate in estimates])
    effects = {
        id(training): Effect(training.tokens, estimate, p_value)
        for training, estimate, p_value in zip(trainings[1:], estimates, p_values, strict=True)
    }
    per_seed = baseline.by_tokens.losses.per_seed() * ablation.bits
    loss = Estimate(float(per_seed.mean()), float(per_seed.min()), float(per_seed.max()), 0.0, tuple(per_seed.tolist()))
    found = [_finding(kind, baseline, effects) for kind in changed]
    return Findings(
        baseline=loss,
        baseline_tokens=baseline.by_tokens.tokens,
        parameters=baseline.variant.parameters,
        tokens_per_second=baseline.tokens_per_second,
        peak_memory_bytes=baseline.by_tokens.peak_memory_bytes,
        num_seeds=len(per_seed),
        tries=len(estimates),
        spread_bits_per_byte=spread.deviation * ablation.bits,
        changes=tuple(sorted(found, key=lambda one: one.by_time.bits_per_byte.mean)),
    )


def _change(baseline: Trained, changed: Trained, spread: Spread, bits: float) -> Estimate:
    """Loss after minus before, in bits per byte: below zero is better."""
    saved = gain(baseline.losses, changed.losses, resamples=RESAMPLES, seed=0, spread=spread).scaled(bits)
    per_seed = (changed.losses.per_seed() - baseline.losses.per_seed()) * bits
    return replace(saved, mean=-saved.mean, low=-saved.high, high=-saved.low, per_seed=tuple(per_seed.tolist()))


def _finding(kind: ChangeResult, baseline: ChangeResult, effects: dict[int, Effect]) -> Finding:
    by_tokens = effects[id(kind.by_tokens)]
    return Finding(
        name=kind.variant.name,
        changes=dict(kind.variant.changes),
        parameters=kind.variant.parameters,
        parameter_ratio=kind.variant.parameters / baseline.variant.parameters,
        tokens_per_second=kind.tokens_per_second,
        speed_ratio=kind.tokens_per_second / baseline.tokens_per_second,
        peak_memory_bytes=kind.by_tokens.peak_memory_bytes,
        by_tokens=by_tokens,
        by_time=by_tokens if kind.by_time is None else effects[id(kind.by_time)],
        same_run=kind.by_time is None,
    )


def shown(found: Findings) -> Sequence[Finding]:
    """The changes whose effect under matched time is shown."""
    return [one for one in found.changes if one.by_time.verdict != "not shown"]
