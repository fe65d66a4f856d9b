"""A state is the same state however it is cut into fragments."""

from __future__ import annotations

import pytest
import torch

from pipeline.errors import DataError
from pipeline.training.partitions import Fragment, Partition
from pipeline.training.saved_state import checksum, contents_of, joined, restore

SIZES = {"embedding": 40, "matrix": 24, "norm": 5}


def cut(bounds: list[int], seed: int | None = None) -> tuple[list[list[Partition]], list[torch.optim.AdamW]]:
    """One partition per rank of all parameters in a row, cut at these places, each with two elements of padding."""
    values = torch.zeros(sum(SIZES.values()))
    if seed is not None:
        values = torch.randn(len(values), generator=torch.Generator().manual_seed(seed))
    by_rank, optimizers = [], []
    for first, last in zip([0, *bounds], [*bounds, len(values)], strict=True):
        fragments, begin = [], 0
        for name, size in SIZES.items():
            start, end = max(begin, first), min(begin + size, last)
            if start < end:
                fragments.append(Fragment(name, start - begin, end - start, start - first))
            begin += size
        master = torch.nn.Parameter(torch.cat([values[first:last], torch.zeros(2)]))
        optimizer = torch.optim.AdamW([master], lr=0.1)
        if seed is not None:
            master.grad = torch.cat([values[first:last].sin(), torch.zeros(2)])
            optimizer.step()
        by_rank.append([Partition(master, tuple(fragments))])
        optimizers.append(optimizer)
    return by_rank, optimizers


def whole(partitions: list[list[Partition]], optimizers: list[torch.optim.AdamW], key: str) -> torch.Tensor:
    parts = []
    for [partition], optimizer in zip(partitions, optimizers, strict=True):
        state = partition.master if key == "master" else optimizer.state[partition.master][key]
        parts.append(state.detach()[: sum(fragment.size for fragment in partition.fragments)])
    return torch.cat(parts)


@pytest.mark.parametrize("before", [[], [30], [11, 44, 66]])
@pytest.mark.parametrize("after", [[], [7], [20, 41, 60]])
def test_any_number_of_ranks_takes_in_what_any_number_wrote(before: list[int], after: list[int]) -> None:
    partitions, optimizers = cut(before, seed=1)
    written = [contents_of(*pair) for pair in zip(partitions, optimizers, strict=True)]
    others, their_optimizers = cut(after)
    for own, optimizer in zip(others, their_optimizers, strict=True):
        restore(joined(written), own, optimizer)
    for key in ("master", "exp_avg", "exp_avg_sq"):
        assert torch.equal(whole(partitions, optimizers, key), whole(others, their_optimizers, key)), key
    assert all(
        float(optimizer.state[own.master]["step"]) == 1
        for [own], optimizer in zip(others, their_optimizers, strict=True)
    )
    held = [checksum(joined([contents_of(*pair)])) for pair in zip(others, their_optimizers, strict=True)]
    assert sum(held) % 2**64 == checksum(joined(written))


def test_the_checksum_notices_any_bit_and_any_swap() -> None:
    partitions, optimizers = cut([30], seed=1)
    contents = [contents_of(*pair) for pair in zip(partitions, optimizers, strict=True)]
    original = checksum(joined(contents))
    momentum = contents[1][0]["states"]["exp_avg"]
    for bit in range(32):
        momentum.view(torch.int32)[3] ^= 1 << bit if bit < 31 else -(1 << 31)
        assert checksum(joined(contents)) != original
        momentum.view(torch.int32)[3] ^= 1 << bit if bit < 31 else -(1 << 31)
    assert checksum(joined(contents)) == original
    momentum[[0, 1]] = momentum[[1, 0]]
    assert checksum(joined(contents)) != original


def test_a_state_with_a_hole_is_refused() -> None:
    partitions, optimizers = cut([30], seed=1)
    written = contents_of(partitions[0], optimizers[0])
    own, [optimizer] = cut([])
    with pytest.raises(DataError, match="lacks 10 elements of embedding"):
        restore(joined([written]), own[0], optimizer)


def test_what_is_written_is_the_state_itself_and_not_a_copy() -> None:
    partitions, [optimizer] = cut([], seed=1)
    [contents] = contents_of(partitions[0], optimizer)
    master = partitions[0][0].master
    assert contents["states"]["master"].data_ptr() == master.data_ptr()
    assert contents["states"]["exp_avg"].data_ptr() == optimizer.state[master]["exp_avg"].data_ptr()
