"""The gain as a curve: what finetuning reaches after how much pretraining, and the power law through it.

The law is L(D) = floor + scale * (D / D0) ** -exponent, with D the pretraining tokens and D0 the most of them: the form
that losses were found to follow (Hestness et al. 2017, Kaplan et al. 2020, Hoffmann et al. 2022). For each exponent of
a grid floor and scale are a least-squares fit of two numbers, both at least zero; the best exponent wins. The interval
repeats the fit on resampled text, the same for all points, with each point moved by the spread of one seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt.counts import flops_per_token
from pipeline.graph.work import Artifact
from pipeline.results.arms import Arm, Trial, read_trial
from pipeline.results.comparison import Losses, arm_loss, gain, text_draws

Floats = NDArray[np.float64]
EXPONENTS = np.geomspace(0.02, 2.0, 120)
FEWEST_POINTS = 4  # a law with three free numbers through three points says nothing


@dataclass(frozen=True)
class Point:
    """One length of pretraining: its weights before and after finetuning on the first seed."""

    tokens: int
    pretrained: Path
    finetuned: Trial


@dataclass(frozen=True)
class Law:
    """A power law of tokens in units of `unit_tokens`."""

    floor: float
    scale: float
    exponent: float
    unit_tokens: float

    def at(self, tokens: float) -> float:
        return float(self.floor + self.scale * (tokens / self.unit_tokens) ** -self.exponent)


def points(pretrain: Artifact, finetune: Artifact, arm: Arm) -> list[Point]:
    """The branches in order of their tokens, and the whole pretraining last; empty without branches."""
    found = []
    for branch in pretrain.manifest.counts.get("branches", ()):
        tuned = finetune.folder / "branches" / branch["branch"]
        trials = [read_trial(path) for path in sorted(tuned.glob("trials/*/trial.json"))]
        best = min((trial for trial in trials if trial.scorable), key=lambda trial: trial.best_selection_nats_per_token)
        weights = pretrain.folder / "branches" / branch["branch"] / "model.safetensors"
        found.append(Point(branch["tokens"], weights, best))
    if not found:
        return []
    whole = Point(pretrain.manifest.counts["tokens"], pretrain.folder / "model.safetensors", arm.trials[0])
    return [*found, whole]


def curve_section(
    found: Sequence[Point],
    losses: Mapping[Path, Losses],
    scratch: Losses,
    arm: Arm,
    shape: Any,
    finetune: Mapping[str, Any],
    seed_deviation: float,
    *,
    factor: float,
    resamples: int,
    seed: int,
) -> dict[str, Any] | None:
    """The report's `curve`: its points and the law through them, in bits per byte; `factor` is one nat per token.

    `losses` holds one seed's losses by file; `seed_deviation` the spread of one seed in nats per token.
    """
    if not found:
        return None
    flops, batch = flops_per_token(shape), finetune["batch_tokens"]
    sides = [losses[point.finetuned.best] for point in found]
    shown = []
    for point, side in zip(found, sides, strict=True):
        values = {
            "finetune": arm_loss(side, resamples=resamples, seed=seed),
            "zero_shot": arm_loss(losses[point.pretrained], resamples=resamples, seed=seed),
            "gain": gain(scratch, side, resamples=resamples, seed=seed),
        }
        scaled = {name: value.scaled(factor) for name, value in values.items()}
        shown.append(
            {
                "tokens": point.tokens,
                "flops": flops * (point.tokens + point.finetuned.steps * batch),
                "learning_rate": point.finetuned.learning_rate,
                "best_step": point.finetuned.best_step,
                **{name: {"mean": one.mean, "ci95": [one.low, one.high]} for name, one in scaled.items()},
            }
        )
    tokens = np.array([point.tokens for point in found], np.float64)
    law = _law_section(tokens, sides, seed_deviation, factor=factor, resamples=resamples, seed=seed)
    return {"points": shown, "law": law}


def _law_section(
    tokens: Floats, sides: Sequence[Losses], seed_deviation: float, *, factor: float, resamples: int, seed: int
) -> dict[str, Any] | None:
    if len(tokens) < FEWEST_POINTS:
        return None
    means = np.array([side.per_seed().mean() for side in sides]) * factor
    (law,) = fitted(tokens, means[None])
    rng = np.random.default_rng(seed)
    draws = text_draws(sides, resamples=resamples, rng=rng)
    draws = (draws + rng.normal(scale=seed_deviation, size=draws.shape)) * factor
    laws = fitted(tokens, draws)
    last, doubled = tokens[-1], 2 * tokens[-1]
    return {
        "floor": law.floor,
        "scale": law.scale,
        "exponent": _with_interval(law.exponent, [one.exponent for one in laws]),
        "unit_tokens": law.unit_tokens,
        "residual": float(np.sqrt(np.mean([(law.at(at) - mean) ** 2 for at, mean in zip(tokens, means, strict=True)]))),
        "next_doubling": {
            "tokens": int(doubled),
            "finetune": _with_interval(law.at(doubled), [one.at(doubled) for one in laws]),
            "saves": _with_interval(law.at(last) - law.at(doubled), [one.at(last) - one.at(doubled) for one in laws]),
        },
    }


def fitted(tokens: Floats, losses: Floats) -> list[Law]:
    """The law closest to each row of losses (rows, points) at these tokens (points,)."""
    unit = float(tokens.max())
    fits = [_line((tokens / unit) ** -exponent, losses) for exponent in EXPONENTS]
    errors = np.stack([error for _, _, error in fits])  # (exponents, rows)
    best = errors.argmin(axis=0)
    return [
        Law(float(fits[at][1][row]), float(fits[at][0][row]), float(EXPONENTS[at]), unit) for row, at in enumerate(best)
    ]


def _line(x: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """Slope and intercept (rows,), both at least zero, of the best line through each row of y; its squared error."""
    centred = x - x.mean()
    slope = (y * centred).sum(axis=1) / (centred**2).sum()
    intercept = y.mean(axis=1) - slope * x.mean()
    through_zero = (y * x).sum(axis=1) / (x * x).sum()
    slope, intercept = np.where(intercept < 0, through_zero, slope), np.maximum(intercept, 0.0)
    slope, intercept = np.maximum(slope, 0.0), np.where(slope < 0, y.mean(axis=1), intercept)
    return slope, intercept, ((slope[:, None] * x + intercept[:, None] - y) ** 2).sum(axis=1)


def _with_interval(mean: float, draws: Sequence[float]) -> dict[str, Any]:
    low, high = np.quantile(draws, (0.025, 0.975))
    return {"mean": mean, "ci95": [float(low), float(high)]}
