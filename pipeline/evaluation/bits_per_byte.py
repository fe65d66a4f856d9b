"""Losses in bits per byte of UTF-8 text, the unit in which models with different tokenizers compare."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.evaluation.intervals import Estimate, Losses, arm_loss, gain


def bits_per_byte(nats: float, text_bytes: int) -> float:
    """The loss of a whole text, its sum in nats, in bits per byte.

    With the text's number of tokens as `nats` this is what one nat per token comes to: the factor between the units.
    """
    # The order of the divisions is part of the reports that exist: another one moves their last digits.
    return nats / text_bytes / math.log(2)


@dataclass(frozen=True)
class BitsPerByte:
    """One nat per token of a text in bits per byte, and how the intervals of its losses are drawn."""

    factor: float
    resamples: int
    seed: int

    @classmethod
    def of(cls, tokens: int, text_bytes: int, *, resamples: int, seed: int) -> BitsPerByte:
        return cls(bits_per_byte(tokens, text_bytes), resamples, seed)

    def loss(self, losses: Losses) -> Estimate:
        """A model's loss, the mean over its seeds."""
        return arm_loss(losses, resamples=self.resamples, seed=self.seed).scaled(self.factor)

    def gain(self, before: Losses, after: Losses) -> Estimate:
        """How much lower the second loss is than the first, paired by window."""
        return gain(before, after, resamples=self.resamples, seed=self.seed).scaled(self.factor)
