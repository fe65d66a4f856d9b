"""The findings of an ablation: each change's effect on the loss, its uncertainty, and the verdict that follows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from pipeline.evaluation.intervals import Estimate, Spread, corrected, gain, pooled_spread
from pipeline.experiments.ablation.ablate import AblationResults, ChangeResult, TrainedSeeds

RESAMPLES = 20_000  # of the bootstrap over windows
LEVEL = 0.05  # of significance, after the correction
Verdict = Literal["helps", "hurts", "not shown"]


@dataclass(frozen=True)
class Effect:
    """The change of the loss in bits per byte (below zero is better), with its 95 % interval and p-values."""

    tokens: int  # that one seed was trained on
    bits_per_byte: Estimate
    corrected_p_value: float

    @property
    def verdict(self) -> Verdict:
        """From the corrected p-value: where many changes were tried, one interval that excludes zero is not enough."""
        if self.corrected_p_value >= LEVEL:
            return "not shown"
        return "helps" if self.bits_per_byte.mean < 0 else "hurts"


@dataclass(frozen=True)
class Finding:
    """One change under both matchings. Ratios are to the baseline; at equal speed `by_time` is `by_tokens`."""

    name: str
    changes: dict[str, Any]
    parameters: int
    parameter_ratio: float
    tokens_per_second: float
    speed_ratio: float
    peak_memory_bytes: int
    by_tokens: Effect
    by_time: Effect
    same_run: bool  # the speeds are equal, so the same trainings answer both questions


@dataclass(frozen=True)
class Findings:
    """The baseline's loss and every change, the best one under matched time first."""

    baseline: Estimate  # bits per byte
    baseline_tokens: int
    parameters: int
    tokens_per_second: float
    peak_memory_bytes: int
    num_seeds: int
    tries: int  # comparisons that the p-values are corrected for
    spread_bits_per_byte: float  # standard deviation of one seed
    git_commit: str  # of the trainings; several, separated by commas, where it was interrupted in between
    changes: tuple[Finding, ...]


def findings(ablation: AblationResults) -> Findings:
    """Compare every change with the baseline, and correct the p-values for the number of comparisons."""
    bits = ablation.bits_per_nat
    baseline, *changes = ablation.results
    trained = [
        seeds for result in ablation.results for seeds in (result.by_tokens, result.by_time) if seeds is not None
    ]
    # A few seeds say little about their spread, so all trainings estimate one spread together (see the page).
    spread = pooled_spread([seeds.losses for seeds in trained])
    estimates = [_change(baseline.by_tokens, seeds, spread, bits) for seeds in trained[1:]]
    p_values = corrected([estimate.p_value for estimate in estimates])
    # By identity: arrays cannot be keys, and two trainings with equal losses are still two comparisons.
    effects = {
        id(seeds): Effect(seeds.tokens, estimate, p_value)
        for seeds, estimate, p_value in zip(trained[1:], estimates, p_values, strict=True)
    }
    per_seed = baseline.by_tokens.losses.per_seed() * bits
    # Not an interval: the lowest and the highest seed. Nothing is concluded from the baseline's loss alone.
    loss = Estimate(float(per_seed.mean()), float(per_seed.min()), float(per_seed.max()), 0.0, tuple(per_seed.tolist()))
    return Findings(
        baseline=loss,
        baseline_tokens=baseline.by_tokens.tokens,
        parameters=baseline.changed.parameters,
        tokens_per_second=baseline.tokens_per_second,
        peak_memory_bytes=baseline.by_tokens.peak_memory_bytes,
        num_seeds=len(per_seed),
        tries=len(estimates),
        spread_bits_per_byte=spread.deviation * bits,
        git_commit=ablation.git_commit,
        changes=tuple(sorted((_finding(result, baseline, effects) for result in changes), key=_change_by_time)),
    )


def _change_by_time(finding: Finding) -> float:
    return finding.by_time.bits_per_byte.mean


def _change(baseline: TrainedSeeds, changed: TrainedSeeds, spread: Spread, bits: float) -> Estimate:
    """The loss with the change minus that without, in bits per byte: below zero is better."""
    saved = gain(baseline.losses, changed.losses, resamples=RESAMPLES, seed=0, spread=spread).scaled(bits)
    per_seed = (changed.losses.per_seed() - baseline.losses.per_seed()) * bits
    # A gain counts from before to after, so its sign turns, and the ends of its interval change places.
    return replace(saved, mean=-saved.mean, low=-saved.high, high=-saved.low, per_seed=tuple(per_seed.tolist()))


def _finding(result: ChangeResult, baseline: ChangeResult, effects: dict[int, Effect]) -> Finding:
    by_tokens = effects[id(result.by_tokens)]
    return Finding(
        name=result.changed.name,
        changes=dict(result.changed.changes),
        parameters=result.changed.parameters,
        parameter_ratio=result.changed.parameters / baseline.changed.parameters,
        tokens_per_second=result.tokens_per_second,
        speed_ratio=result.tokens_per_second / baseline.tokens_per_second,
        peak_memory_bytes=result.by_tokens.peak_memory_bytes,
        by_tokens=by_tokens,
        by_time=by_tokens if result.by_time is None else effects[id(result.by_time)],
        same_run=result.by_time is None,
    )
