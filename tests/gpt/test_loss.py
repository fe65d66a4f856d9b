import math

import pytest
import torch

from gpt.loss import IGNORED, next_token_loss
from gpt.shape import ShapeError

# Two positions over three tokens: probabilities (1/2, 1/4, 1/4) and (1/8, 1/8, 3/4).
LOGITS = torch.tensor([[[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]]]).log()


def test_loss_is_the_sum_of_negative_log_probabilities() -> None:
    loss = next_token_loss(LOGITS, torch.tensor([[1, 2]]))
    assert loss.nats.item() == pytest.approx(math.log(4) + math.log(4 / 3))
    assert loss.count.item() == 2


def test_ignored_positions_count_neither_in_the_loss_nor_in_the_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = next_token_loss(logits, torch.tensor([[IGNORED, 0]]))
    assert (loss.nats.item(), loss.count.item()) == (pytest.approx(math.log(8)), 1)
    loss.nats.backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.tensor([[[0.0, 0.0, 0.0], [0.125 - 1, 0.125, 0.75]]]))


def test_nothing_counted_is_zero_and_not_nan() -> None:
    assert next_token_loss(LOGITS, torch.tensor([[IGNORED, IGNORED]])) == (0.0, 0)


def test_loss_of_half_precision_logits_is_computed_in_float32() -> None:
    logits = torch.full((1, 300, 5), 3.0, dtype=torch.bfloat16)
    loss = next_token_loss(logits, torch.zeros(1, 300, dtype=torch.int64))
    assert loss.nats.dtype == torch.float32
    assert loss.nats.item() == pytest.approx(300 * math.log(5), rel=1e-6)


def test_targets_of_another_shape_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(1, 2, 3\).*\(2, 1\)"):
        next_token_loss(LOGITS, torch.zeros(2, 1, dtype=torch.int64))
