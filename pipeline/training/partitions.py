"""Where the state of a training lies: which part of which parameter stands where on which rank.

DeepSpeed keeps master weights in flat tensors, its partitions, and cuts them differently at every ZeRO stage and number
of ranks. `deepspeed_partitions.py` finds out how; everything that needs whole parameters, or parts of them cut in
another way, works with what is described here and knows nothing of DeepSpeed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class Fragment(NamedTuple):
    """Elements `start` to `start + size` of a flattened parameter, at `offset` of the tensor that holds them."""

    parameter: str
    start: int
    size: int
    offset: int


@dataclass(frozen=True, eq=False)
class Partition:
    """Master weights that this rank updates, as the optimizer sees them: one tensor, of any shape."""

    master: Tensor
    fragments: tuple[Fragment, ...]  # what is in none of them is padding


Run = tuple[int, int]  # offset and count


@dataclass(frozen=True)
class Route:
    """Runs of a vector on this rank that go to each rank, and where runs from each rank go in another vector."""

    sent: Sequence[Sequence[Run]]
    received: Sequence[Sequence[Run]]

    def carry(self, source: Tensor, target: Tensor) -> None:
        """Copy the runs from every rank's source (N,) into every rank's target (M,). Collective."""
        leaving = _joined([source[offset : offset + count] for runs in self.sent for offset, count in runs], source)
        sizes = [sum(count for _, count in runs) for runs in self.received]
        arriving = leaving
        if len(self.sent) > 1:
            arriving = leaving.new_empty(sum(sizes))
            dist.all_to_all_single(arriving, leaving, sizes, [sum(count for _, count in runs) for runs in self.sent])
        begin = 0
        for runs in self.received:
            for offset, count in runs:
                target[offset : offset + count] = arriving[begin : begin + count]
                begin += count


def _joined(parts: Sequence[Tensor], like: Tensor) -> Tensor:
    return torch.cat(tuple(parts)) if parts else like.new_empty(0)
