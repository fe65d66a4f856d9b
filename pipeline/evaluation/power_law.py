"""The power law through losses at several lengths of pretraining."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.evaluation.intervals import Floats

EXPONENTS = np.geomspace(0.02, 2.0, 120)


@dataclass(frozen=True)
class Law:
    """A power law of tokens in units of `unit_tokens`."""

    floor: float
    scale: float
    exponent: float
    unit_tokens: float

    def at(self, tokens: float) -> float:
        return float(self.floor + self.scale * (tokens / self.unit_tokens) ** -self.exponent)


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
