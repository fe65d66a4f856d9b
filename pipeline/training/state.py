"""How far a training has come: all that the loop carries from step to step beside the engine, saved as one."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

RECENT = 64  # losses that a spike is compared with; half of them have to be there first
NORMAL_MAD = 1.4826  # standard deviations of a normal distribution in its median absolute deviation


@dataclass(frozen=True)
class StepResult:
    """What one step did, the same on every rank."""

    nats_per_token: float  # of the whole batch, before the update
    tokens: int  # targets counted in the whole batch
    grad_norm: float  # of the whole batch, before clipping; not finite if the step was skipped
    skipped: bool  # loss or gradient was not finite, or the loss too high, so the weights were left alone
    stop: bool  # some rank was asked to stop
    written: bool = False  # every rank has written its part of the checkpoint that is under way
    highest_loss: float = math.inf  # nats per token; a step with a higher one is skipped


@dataclass(frozen=True)
class State:
    """The data position is `step`: the order of the data needs no other state. Equal on every rank."""

    step: int = 0  # steps taken, skipped ones included
    tokens: int = 0
    nats_per_token: float | None = None  # training loss of the last step that was not skipped
    skipped: int = 0
    skipped_in_a_row: int = 0
    best_step: int | None = None
    best_nats_per_token: float | None = None  # lowest loss of the evaluations so far
    evaluations_since_best: int = 0
    recent: tuple[float, ...] = ()  # the last training losses that were not skipped, nats per token
    evaluated: int = 0  # step of the last evaluation; a training that was stopped before one begins with it

    def after_step(self, result: StepResult) -> State:
        seen = replace(self, step=self.step + 1, tokens=self.tokens + result.tokens)
        if result.skipped:
            return replace(seen, skipped=self.skipped + 1, skipped_in_a_row=self.skipped_in_a_row + 1)
        recent = (*self.recent, result.nats_per_token)[-RECENT:]
        return replace(seen, nats_per_token=result.nats_per_token, skipped_in_a_row=0, recent=recent)

    def highest_loss(self, spike: float | None) -> float:
        """The highest training loss of the next step, in nats per token, that is not a spike; infinite if all are fine.

        `spike` is the z-score of Iglewicz and Hoaglin (1993), of median and median absolute deviation: the spikes
        themselves, which the mean and its deviation would follow, do not move it.
        """
        if spike is None or len(self.recent) < RECENT // 2:
            return math.inf
        middle = median(self.recent)
        deviation = NORMAL_MAD * median(abs(loss - middle) for loss in self.recent)
        return middle + spike * deviation

    def after_evaluation(self, nats_per_token: float) -> State:
        """A tie does not count as an improvement, and neither does a loss that is not a number."""
        best = math.inf if self.best_nats_per_token is None else self.best_nats_per_token
        seen = replace(self, evaluated=self.step, evaluations_since_best=self.evaluations_since_best + 1)
        if nats_per_token < best:
            return replace(seen, best_step=self.step, best_nats_per_token=nats_per_token, evaluations_since_best=0)
        return seen

    def to_json(self) -> dict[str, Any]:
        """Python writes the shortest digits that read back as the same float, so nothing is lost."""
        return asdict(self)

    @staticmethod
    def from_json(values: dict[str, Any]) -> State:
        return State(**{**values, "recent": tuple(values["recent"])})
