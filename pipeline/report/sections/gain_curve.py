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

from gpt.counts import flops_per_token
from gpt.shape import GPTShape
from pipeline.evaluation.arms import TrainedArm, TrialRecord, read_trial
from pipeline.evaluation.bits_per_byte import BitsPerByte, as_json
from pipeline.evaluation.intervals import Floats, Losses, text_draws
from pipeline.evaluation.power_law import fitted
from pipeline.graph.work import Artifact

WEIGHTS = "model.safetensors"
FEWEST_POINTS = 4  # a law with three free numbers through three points says nothing


@dataclass(frozen=True)
class Point:
    """One length of pretraining: its weights before and after finetuning on the first seed."""

    tokens: int
    pretrained: Path
    finetuned: TrialRecord


def points(inputs: Mapping[str, Artifact], arms: Sequence[TrainedArm]) -> list[Point]:
    """The branches in order of their tokens, and the whole pretraining last; empty without branches."""
    if "finetune" not in inputs:
        return []
    pretrain, finetune = inputs["pretrain"], inputs["finetune"]
    branches = pretrain.manifest.counts.get("branches", ())
    if not branches:
        return []
    found = [
        Point(branch["tokens"], *_weights(pretrain.folder, finetune.folder, branch["branch"])) for branch in branches
    ]
    whole = Point(pretrain.manifest.counts["tokens"], pretrain.folder / WEIGHTS, arms[-1].trials[0])
    return [*found, whole]


def _weights(pretrain: Path, finetune: Path, branch: str) -> tuple[Path, TrialRecord]:
    trials = [read_trial(path) for path in sorted((finetune / "branches" / branch).glob("trials/*/trial.json"))]
    best = min((trial for trial in trials if trial.scorable), key=lambda trial: trial.best_selection_nats_per_token)
    return pretrain / "branches" / branch / WEIGHTS, best


def curve_section(
    found: Sequence[Point],
    losses: Mapping[Path, Losses],
    scratch: Losses,
    finetune: Losses,
    shape: GPTShape,
    batch_tokens: int,
    bits: BitsPerByte,
) -> dict[str, Any] | None:
    """The report's `curve`: its points and the law through them, in bits per byte; None without branches.

    `losses` holds one seed's losses by file; `finetune` those of all seeds of the whole pretraining, whose spread is
    taken for that of each point; `batch_tokens` are those of finetuning.
    """
    if not found:
        return None
    sides = [losses[point.finetuned.best] for point in found]
    flops = flops_per_token(shape)
    shown = [
        {
            "tokens": point.tokens,
            "flops": flops * (point.tokens + point.finetuned.steps * batch_tokens),
            "learning_rate": point.finetuned.learning_rate,
            "best_step": point.finetuned.best_step,
            "finetune": as_json(bits.loss(side)),
            "zero_shot": as_json(bits.loss(losses[point.pretrained])),
            "gain": as_json(bits.saved(scratch, side)),
        }
        for point, side in zip(found, sides, strict=True)
    ]
    per_seed = finetune.per_seed()
    deviation = float(per_seed.std(ddof=1)) if len(per_seed) > 1 else 0.0
    tokens = np.array([point.tokens for point in found], np.float64)
    return {"points": shown, "law": law_section(tokens, sides, deviation, bits)}


def law_section(
    tokens: Floats, sides: Sequence[Losses], seed_deviation: float, bits: BitsPerByte
) -> dict[str, Any] | None:
    """The law through the losses at these tokens, and where twice the most of them would lead; None for few points."""
    if len(tokens) < FEWEST_POINTS:
        return None
    means = np.array([side.per_seed().mean() for side in sides]) * bits.factor
    (law,) = fitted(tokens, means[None])
    rng = np.random.default_rng(bits.seed)
    draws = text_draws(sides, resamples=bits.resamples, rng=rng)
    laws = fitted(tokens, (draws + rng.normal(scale=seed_deviation, size=draws.shape)) * bits.factor)
    last, doubled = tokens[-1], 2 * tokens[-1]
    residuals = [law.at(at) - mean for at, mean in zip(tokens, means, strict=True)]
    return {
        "floor": law.floor,
        "scale": law.scale,
        "exponent": _with_interval(law.exponent, [one.exponent for one in laws]),
        "unit_tokens": law.unit_tokens,
        "largest_residual": float(np.abs(residuals).max()),
        "next_doubling": {
            "tokens": int(doubled),
            "finetune": _with_interval(law.at(doubled), [one.at(doubled) for one in laws]),
            "saves": _with_interval(law.at(last) - law.at(doubled), [one.at(last) - one.at(doubled) for one in laws]),
        },
    }


def _with_interval(mean: float, draws: Sequence[float]) -> dict[str, Any]:
    low, high = np.quantile(draws, (0.025, 0.975))
    return {"mean": mean, "ci95": [float(low), float(high)]}
