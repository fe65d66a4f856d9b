"""The learning rate as a pure function of the step: no scheduler, hence nothing to save and nothing to restore."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Schedule:
    """Linear warmup to `peak`, then a shape: cosine, wsd (stable, then linear decay) or constant.

    Cosine and wsd end at `final * peak`. Step counts are updates; the first one is step 0.
    """

    kind: Literal["cosine", "wsd", "constant"]
    steps: int
    peak: float
    warmup_steps: int
    decay_steps: int  # at the end; wsd only
    final: float  # share of the peak

    def rate(self, step: int) -> float:
        """The learning rate of the update that turns the weights of `step` into those of `step + 1`.

        >>> wsd = Schedule("wsd", steps=10, peak=1.0, warmup_steps=2, decay_steps=4, final=0.0)
        >>> [wsd.rate(step) for step in range(10)]
        [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25]
        """
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        return self.peak * (self.final + (1.0 - self.final) * self._height(step))

    def _height(self, step: int) -> float:
        """Where the shape stands between its end (0) and its top (1)."""
        left = self.steps - step
        if self.kind == "wsd":
            return min(1.0, left / max(self.decay_steps, 1))
        if self.kind == "cosine":
            return 0.5 * (1.0 - math.cos(math.pi * left / (self.steps - self.warmup_steps)))
        return 1.0
