"""Where DeepSpeed (0.19.8) keeps this rank's master weights, at each of its ZeRO stages.

It reads attributes that DeepSpeed does not document, so what it finds is compared with the weights themselves before
anything is built on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn

from pipeline.training.partitions import Fragment, Partition


def partitions_of(optimizer: Any, module: nn.Module) -> list[Partition]:
    """What this rank updates, of an engine's `optimizer` that was just made over the module.

    Raises RuntimeError if DeepSpeed lays its weights out in another way than this module knows.
    """
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    partitions = [
        Partition(master, tuple(fragment for fragment in fragments if fragment.size > 0))
        for master, fragments in _layout(optimizer, names)
    ]
    parameters = dict(module.named_parameters())
    for partition in partitions:
        for fragment in partition.fragments:
            _refuse_other_layout(partition.master.detach(), fragment, parameters[fragment.parameter])
    return partitions


def show_updated_masters(optimizer: Any) -> None:
    """Give the model the weights that were put into the partitions. Collective."""
    if hasattr(optimizer, "fp16_partitioned_groups_flat"):
        # Stage 3 as in its own loading: the shares of all parameters, then those that every rank keeps whole.
        optimizer.checkpoint_event_prologue()
        for index, master in enumerate(optimizer.fp32_partitioned_groups_flat):
            optimizer.fp16_partitioned_groups_flat[index].data.copy_(master.data)
            optimizer._unflatten_partitioned_parameters(index)
        optimizer.checkpoint_event_epilogue()
    elif hasattr(optimizer, "update_lp_params"):  # stages 1 and 2
        optimizer.update_lp_params()
    elif hasattr(optimizer, "fp32_groups"):  # stage 0 in bf16
        for group, masters in zip(optimizer.fp16_groups, optimizer.fp32_groups, strict=True):
            for parameter, master in zip(group, masters, strict=True):
                parameter.data.copy_(master.data)
    # At stage 0 in fp32 the model's weights are the masters.


def _layout(optimizer: Any, names: dict[int, str]) -> Iterator[tuple[Tensor, list[Fragment]]]:
    rank = dist.get_rank()
    if hasattr(optimizer, "fp32_partitioned_groups_flat"):  # stage 3
        for group, master in zip(optimizer.fp16_groups, optimizer.fp32_partitioned_groups_flat, strict=True):
            yield master, _shares(group, names, rank)
    elif hasattr(optimizer, "single_partition_of_fp32_groups"):  # stages 1 and 2
        for group, offsets, master in zip(
            optimizer.round_robin_bit16_groups,
            optimizer.round_robin_bit16_offsets,
            optimizer.single_partition_of_fp32_groups,
            strict=True,
        ):
            yield master, _cut(group, offsets, names, first=rank * master.numel(), size=master.numel())
    elif hasattr(optimizer, "fp32_groups_flat_partition"):  # stage 1 in bf16
        for group, master in zip(optimizer.bf16_groups, optimizer.fp32_groups_flat_partition, strict=True):
            offsets = [0, *accumulate(parameter.numel() for parameter in group)][:-1]
            yield master, _cut(group, offsets, names, first=rank * master.numel(), size=master.numel())
    elif hasattr(optimizer, "fp32_groups"):  # stage 0 in bf16: a copy of each parameter
        for group, masters in zip(optimizer.fp16_groups, optimizer.fp32_groups, strict=True):
            for parameter, master in zip(group, masters, strict=True):
                yield master, [Fragment(names[id(parameter)], 0, parameter.numel(), 0)]
    else:  # stage 0 in fp32: an optimizer over the parameters themselves
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                yield parameter, [Fragment(names[id(parameter)], 0, parameter.numel(), 0)]


def _cut(
    group: Sequence[Tensor], offsets: Sequence[int], names: dict[int, str], *, first: int, size: int
) -> list[Fragment]:
    """The group's parameters lie one behind the other, and each rank has `size` elements of that row, from `first`."""
    fragments = []
    for parameter, offset in zip(group, offsets, strict=True):
        begin, end = max(offset, first), min(offset + parameter.numel(), first + size)
        fragments.append(Fragment(names[id(parameter)], begin - offset, end - begin, begin - first))
    return fragments


def _shares(group: Sequence[Any], names: dict[int, str], rank: int) -> list[Fragment]:
    """Each parameter is cut into equal shares, one per rank, and a rank's shares lie one behind the other."""
    fragments, offset = [], 0
    for parameter in group:
        share = parameter.partition_numel()
        start = rank * share
        fragments.append(Fragment(names[id(parameter)], start, min(share, parameter.ds_numel - start), offset))
        offset += share
    return fragments


def _refuse_other_layout(master: Tensor, fragment: Fragment, parameter: Any) -> None:
    _, start, size, offset = fragment
    # Under stage 3 the parameter itself is empty, and `ds_tensor` is this rank's share of it.
    share = getattr(parameter, "ds_tensor", None)
    weights = parameter.detach().flatten()[start : start + size] if share is None else share.detach()[:size]
    held = master.flatten()[offset : offset + size]
    if not held.to(weights.device, weights.dtype).equal(weights):
        raise RuntimeError(f"DeepSpeed keeps {fragment.parameter} elsewhere than Folio knows")
