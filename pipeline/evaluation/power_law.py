"""A power law through the losses at several lengths of pretraining, by least squares.

    L(D) = floor + scale * (D / D0) ** -exponent

with D the pretraining tokens and D0 the most of them, in the form that losses were found to follow (Hestness et al.
2017; Kaplan et al. 2020; Hoffmann et al. 2022). `floor` is the loss that no amount of pretraining would remove.

Only the exponent is not linear in the loss. It is searched on a grid; for each value floor and scale are a line fitted
to two numbers in closed form, both held at zero or above. That is exact up to the grid, always finds the best fit of
the grid, and fits thousands of resampled curves at once, where an iterative solver would depend on where it starts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.evaluation.intervals import Floats

# From a law that hardly falls to one faster than any published; neighbours differ by 4 %, less than its uncertainty.
EXPONENTS = np.geomspace(0.02, 2.0, 120)


@dataclass(frozen=True)
class Law:
    """A power law of tokens, in the unit of the losses it was fitted to."""

    floor: float
    scale: float
    exponent: float
    unit_tokens: float  # D0: there the loss is floor + scale

    def at(self, tokens: float) -> float:
        """The loss that the law gives after so much pretraining."""
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
    """Slope, intercept and squared error, each (rows,), of the best line through each row of y (rows, points).

    Slope and intercept are at least zero: a loss neither rises with pretraining nor falls below zero bits.
    """
    centred = x - x.mean()
    slope = (y * centred).sum(axis=1) / (centred**2).sum()
    intercept = y.mean(axis=1) - slope * x.mean()
    # Where the unconstrained line breaks a bound, the best allowed one lies on it: through the origin, or level.
    through_zero = (y * x).sum(axis=1) / (x * x).sum()
    slope, intercept = np.where(intercept < 0, through_zero, slope), np.maximum(intercept, 0.0)
    slope, intercept = np.maximum(slope, 0.0), np.where(slope < 0, y.mean(axis=1), intercept)
    return slope, intercept, ((slope[:, None] * x + intercept[:, None] - y) ** 2).sum(axis=1)
