from __future__ import annotations

from typing import Any

import pytest

from pipeline.evaluation.arms import read_arm
from pipeline.report.finished_run import FinishedRun
from pipeline.report.sections.arm_losses import training_fields, units

UNITS = ("bits_per_byte", "nats_per_token", "nats_per_char")


def test_gain_is_scratch_minus_finetune(written: Any) -> None:
    arms, gain = written.report.arms, written.report.gain
    for unit in UNITS:
        scratch, finetune = (getattr(arm, f"val_{unit}").mean for arm in (arms.scratch, arms.finetune))
        assert getattr(gain, unit).mean == pytest.approx(scratch - finetune, rel=1e-5)
    assert gain.helps is True
    assert 0 < gain.bits_per_byte.p_value < 0.05


def test_last_step_of_a_refit_is_the_one_that_is_reported(written: Any) -> None:
    scratch, zero_shot = written.report.arms.scratch, written.report.arms.zero_shot
    assert scratch.last_step_val_bits_per_byte == scratch.val_bits_per_byte.mean
    assert scratch.refit.model_dump() == {"characters": 3637, "chosen_step": 20, "chosen_of": 30}
    assert zero_shot.last_step_val_bits_per_byte == zero_shot.val_bits_per_byte.mean
    low, high = scratch.last_step.ci95
    assert low < scratch.last_step.mean < high


def test_an_arm_that_was_not_trained_has_no_rate_and_no_steps(written: Any) -> None:
    content = written.content["arms"]["zero_shot"]
    assert [content[name] for name in ("learning_rate", "steps", "best_step", "seeds", "grid")] == [None, 0, 0, [], []]
    assert "steps_per_seed" not in content and "best_step_per_seed" not in content


def test_steps_are_those_of_a_seed_and_the_lower_of_two(chain: Any) -> None:
    arm = read_arm(chain.artifacts["scratch"])
    first, second = arm.trials
    shorter = type(first)(first.folder, first.record.model_copy(update={"steps": 10}))
    fields = training_fields(type(arm)(**{**vars(arm), "trials": (shorter, second)}))
    assert (fields["steps"], fields["steps_per_seed"]) == (10, (10, 21))
    assert fields["seeds"] == (1, 2)


def test_a_nat_per_token_is_a_nat_per_character_where_tokens_are_characters(chain: Any) -> None:
    factors = units(FinishedRun.of(chain.work()))
    assert list(factors) == list(UNITS)
    assert factors["nats_per_token"] == factors["nats_per_char"] == 1.0
    assert factors["bits_per_byte"] == pytest.approx(1.442695)


def test_a_run_that_pretrains_nothing_has_scratch_alone_and_no_gain(chain: Any, write: Any) -> None:
    chain.without_pretraining()
    written = write(chain)
    assert list(written.content["arms"]) == ["scratch"]
    assert written.content["gain"] is None
