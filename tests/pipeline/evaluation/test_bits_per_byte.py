from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.evaluation.bits_per_byte import BitsPerByte, bits_per_byte
from pipeline.evaluation.intervals import Losses, arm_loss


def test_a_text_that_costs_one_bit_a_byte_costs_its_bytes_times_ln_2() -> None:
    assert bits_per_byte(40 * math.log(2), text_bytes=40) == pytest.approx(1.0)
    assert bits_per_byte(80 * math.log(2), text_bytes=40) == pytest.approx(2.0)


def test_a_nat_per_token_of_longer_tokens_is_fewer_bits_per_byte() -> None:
    assert bits_per_byte(10, text_bytes=40) == pytest.approx(0.25 / math.log(2))


def test_losses_and_gains_are_scaled_with_their_intervals() -> None:
    before, after = (Losses(np.array([row]), np.array([2, 2, 2])) for row in ([4.0, 6.0, 8.0], [2.0, 4.0, 6.0]))
    bits = BitsPerByte.of(6, 3, resamples=200, seed=0)
    in_nats = arm_loss(before, resamples=200, seed=0)
    assert bits.loss(before).mean == pytest.approx(3.0 * 2 / math.log(2))
    assert bits.loss(before).low == pytest.approx(in_nats.low * 2 / math.log(2))
    assert bits.gain(before, after).mean == pytest.approx(1.0 * 2 / math.log(2))
