"""Agreement between ranks on small Python values; every function here is collective."""

from __future__ import annotations

from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")


def broadcast(value: T) -> T:
    """Rank 0's value, on every rank: what is read from disk or clock by one is the same for all."""
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def all_gather(value: T) -> list[T]:
    """Every rank's value, by rank."""
    boxes: list[T] = [value] * dist.get_world_size()
    dist.all_gather_object(boxes, value)
    return boxes
