"""Estimates in bits per byte, the unit in which models with different tokenizers compare."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.evaluation.intervals import Estimate, Losses, arm_loss, gain


@dataclass(frozen=True)
class BitsPerByte:
    """One nat per token of a text in bits per byte, and how the intervals of its losses are drawn."""

    factor: float
    resamples: int
    seed: int

    @classmethod
    def of(cls, tokens: int, text_bytes: int, *, resamples: int, seed: int) -> BitsPerByte:
        return cls(tokens / text_bytes / math.log(2), resamples, seed)

    def loss(self, losses: Losses) -> Estimate:
        """What a model loses, the mean over its seeds."""
        return arm_loss(losses, resamples=self.resamples, seed=self.seed).scaled(self.factor)

    def saved(self, before: Losses, after: Losses) -> Estimate:
        """How much less the second loses than the first, paired by window."""
        return gain(before, after, resamples=self.resamples, seed=self.seed).scaled(self.factor)


def as_json(estimate: Estimate) -> Mapping[str, Any]:
    """Mean and 95 % interval as the report holds them."""
    return {"mean": estimate.mean, "ci95": [estimate.low, estimate.high]}
