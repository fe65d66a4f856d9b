from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from pipeline.config.training_sections import PretrainSection, ScratchSection
from pipeline.distributed.world import World
from pipeline.experiments.lr_range.rising_rate import SmoothedLosses, first_seed, rates, take_readings
from pipeline.runtime.progress import Progress
from pipeline.training.deepspeed_config import EngineSettings
from pipeline.training.state import StepResult


def test_rates_rise_by_the_same_factor_from_the_first_to_the_last() -> None:
    assert rates(1e-4, 1e0, 5) == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1e0])


def test_running_mean_weighs_the_past_with_nine_tenths_and_starts_unbiased() -> None:
    losses = SmoothedLosses(steps=100)
    assert losses.add(4.0) and losses.smoothed == pytest.approx(4.0)
    # (0.9 * 0.1 * 4 + 0.1 * 2) / (1 - 0.81)
    assert losses.add(2.0) and losses.smoothed == pytest.approx(0.56 / 0.19)


def test_loss_blows_up_beyond_its_lowest_mean_but_not_while_it_settles() -> None:
    losses = SmoothedLosses(steps=20)
    assert all(losses.add(loss) for loss in (1.0, 9.0, 1.0)), "the first tenth of the steps does not count"
    assert not losses.add(30.0)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_has_blown_up_at_once(loss: float) -> None:
    assert not SmoothedLosses(steps=20).add(loss)


def test_seed_is_that_of_the_stage_or_of_its_grid() -> None:
    assert first_seed(PretrainSection(seed=7)) == 7
    assert first_seed(ScratchSection(learning_rates=(0.1,), seeds=(5, 6))) == 5


class FakeEngine:
    """Gives the losses in turn, and notes what each step trained on and at which rate."""

    world, settings = World(), EngineSettings(micro_batch=2, accumulation=1)

    def __init__(self, losses: list[float]) -> None:
        self.losses, self.steps = losses, list[tuple[int, float]]()

    def begin(self, batch: Any, learning_rate: float, *, step: int, highest_loss: float) -> None:
        self.steps.append((step, learning_rate))

    def backward(self, inputs: Any, targets: Any) -> None: ...

    def step(self, *, stop: bool, written: bool) -> StepResult:
        return StepResult(self.losses.pop(0), 8, 1.0, skipped=False, stop=stop)


class FakeBatches:
    def of_step(self, step: int, *, rank: int, world_size: int, micro_batch: int) -> list[Any]:
        assert (rank, world_size, micro_batch) == (0, 1, 2)
        return [(np.zeros((2, 4)), np.zeros((2, 4)))]


def test_readings_end_before_the_step_that_blew_up() -> None:
    engine = FakeEngine([3.0, 3.0, 3.0, math.nan, 3.0])
    rising = [0.1, 0.2, 0.3, 0.4, 0.5]
    batches: Any = FakeBatches()
    readings = take_readings(engine, batches, rising, seed=1, progress=Progress("x"))  # type: ignore[arg-type]
    assert [(reading.learning_rate, reading.nats_per_token) for reading in readings] == [(r, 3.0) for r in rising[:3]]
    assert [reading.smoothed for reading in readings] == pytest.approx([3.0] * 3)
    assert engine.steps == list(enumerate(rising[:4]))
