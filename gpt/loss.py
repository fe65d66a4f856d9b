"""The next-token loss as a sum and a count, which add up over ranks and micro-batches without bias."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from gpt.shape import ShapeError

IGNORED = -100  # a target that is not counted


class LossSum(NamedTuple):
    """`nats`: float32 scalar, summed over the counted positions; `count`: int64 scalar, the number of them."""

    nats: Tensor
    count: Tensor  # type: ignore[assignment]  # hides tuple.count, which nobody needs here


def next_token_loss(logits: Tensor, targets: Tensor) -> LossSum:
    """Sum the cross-entropy over counted positions, and count them.

    logits (..., V) of any float dtype, computed in float32; targets (...) int64, IGNORED positions left out.

    Raises ShapeError if the leading dimensions differ.
    """
    if logits.shape[:-1] != targets.shape:
        raise ShapeError(f"logits {tuple(logits.shape)} and targets {tuple(targets.shape)} differ before the last.")
    # A sum, not a mean: a mean per micro-batch would weigh a short text's tokens more than a long one's.
    nats = F.cross_entropy(logits.flatten(0, -2).float(), targets.flatten(), ignore_index=IGNORED, reduction="sum")
    return LossSum(nats, (targets != IGNORED).sum())
