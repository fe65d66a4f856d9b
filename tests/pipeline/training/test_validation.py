"""The loss on held-out text is a mean over counted targets, without dropout."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from gpt.loss import IGNORED, LossSum
from pipeline.distributed.world import World
from pipeline.tokens.scoring_windows import ScoringWindows
from pipeline.training.deepspeed_config import EngineSettings
from pipeline.training.validation import evaluate


class FakeEngine:
    """The loss of a target is its own number, summed in float32 as the real one does."""

    world, device, settings = World(), torch.device("cpu"), EngineSettings(micro_batch=2, accumulation=1)

    def __init__(self) -> None:
        self.dropout, self.forwards = True, 0

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        self.dropout = False
        try:
            yield
        finally:
            self.dropout = True

    def loss(self, inputs: np.ndarray, targets: np.ndarray) -> LossSum:
        assert not self.dropout, "the loss on held-out text is that of the whole model"
        self.forwards += 1
        counted = torch.from_numpy(targets[targets != IGNORED])
        return LossSum(counted.float().sum(), torch.tensor(float(len(counted))))


@pytest.mark.usefixtures("one_rank")
def test_loss_is_the_mean_over_counted_targets_whatever_the_micro_batches() -> None:
    targets = np.array([[1, 2], [3, IGNORED], [IGNORED, 10]])
    engine = FakeEngine()
    loss = evaluate(engine, ScoringWindows(np.zeros_like(targets), targets))  # type: ignore[arg-type]
    assert loss == (1 + 2 + 3 + 10) / 4
    assert engine.forwards == 2, "three windows, two at a time"
    assert engine.dropout, "training goes on with it"


@pytest.mark.usefixtures("one_rank")
def test_a_stop_ends_it_between_two_micro_batches() -> None:
    targets, answers = np.array([[1, 2]] * 6), [False, True]
    engine = FakeEngine()
    windows = ScoringWindows(np.zeros_like(targets), targets)
    assert evaluate(engine, windows, lambda: answers.pop(0)) is None  # type: ignore[arg-type]
    assert engine.forwards == 1
    assert engine.dropout, "what is trained after a resume in the same process"
