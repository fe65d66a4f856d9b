"""Agreement between ranks on small Python values; every function here is collective."""

from __future__ import annotations

from typing import TypeVar

import torch.distributed as dist

Value = TypeVar("Value")


def broadcast(value: Value) -> Value:
    """Rank 0's value, on every rank.

    For whatever ranks could disagree on: a clock, the existence of a file, a free name. Ranks that branched on their
    own view of it would call different collectives, and wait for each other until the timeout.
    """
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def all_gather(value: Value) -> list[Value]:
    """Every rank's value, in the order of ranks, on every rank."""
    values: list[Value] = [value] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
