"""The state of a training as its checkpoint holds it: for any number of ranks, at any ZeRO stage.

Each rank writes what it holds, and what of it belongs to which parameter. Whoever reads takes the parts that it needs
from what all ranks wrote; so a checkpoint is not for a number of ranks. docs/decisions/training.md
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import DataError
from pipeline.training.partitions import Fragment, Partition

MASTER = "master"  # name of the weights among the states; the others are the optimizer's own, such as "exp_avg"
WORD = 1 << 64

Contents = list[dict[str, Any]]  # what one rank holds, as plain values and tensors


@dataclass(frozen=True)
class StateFragment:
    """Elements `start` to `start + size` of each state of a parameter: weights, momentum and so on."""

    start: int
    size: int
    states: Mapping[str, Tensor]  # (size,) each, float32
    scalars: Mapping[str, Tensor]  # such as how many steps the optimizer took


SavedState = Mapping[str, list[StateFragment]]  # by parameter


def contents_of(partitions: Iterable[Partition], optimizer: torch.optim.Optimizer) -> Contents:
    """What this rank holds. The tensors are the optimizer's own, not copies."""
    contents = []
    for partition in partitions:
        states = {MASTER: partition.master, **optimizer.state.get(partition.master, {})}
        contents.append(
            {
                "fragments": [tuple(fragment) for fragment in partition.fragments],
                "states": {name: state.detach().flatten() for name, state in states.items() if state.ndim > 0},
                "scalars": {name: state.detach() for name, state in states.items() if state.ndim == 0},
            }
        )
    return contents


def joined(all_contents: Iterable[Contents]) -> SavedState:
    """What several ranks hold, by parameter."""
    saved: dict[str, list[StateFragment]] = defaultdict(list)
    for part in (part for contents in all_contents for part in contents):
        for name, start, size, offset in map(Fragment._make, part["fragments"]):
            states = {key: state[offset : offset + size] for key, state in part["states"].items()}
            saved[name].append(StateFragment(start, size, states, part["scalars"]))
    return saved


@torch.no_grad()
def restore(saved: SavedState, partitions: Iterable[Partition], optimizer: torch.optim.Optimizer) -> None:
    """Put a saved state into this rank's partitions and the optimizer. Raises DataError if a part is missing."""
    for partition in partitions:
        state: dict[str, Tensor] = {MASTER: partition.master}
        for fragment in partition.fragments:
            missing = fragment.size - sum(
                _copy_common(fragment, source, state) for source in saved.get(fragment.parameter, [])
            )
            if missing:
                raise DataError(
                    f"The checkpoint lacks {missing:,} elements of {fragment.parameter}.",
                    remedy="Use another checkpoint of this training.",
                )
        del state[MASTER]
        if state:  # empty where this rank holds nothing but padding, or nobody took a step
            optimizer.state[partition.master] = state


def _copy_common(fragment: Fragment, source: StateFragment, state: dict[str, Tensor]) -> int:
    """Copy what a saved fragment has of a fragment into the states of its partition; how many elements it was."""
    first = max(fragment.start, source.start)
    last = min(fragment.start + fragment.size, source.start + source.size)
    if first >= last:
        return 0
    offset = fragment.offset + first - fragment.start
    for name, values in source.states.items():
        if name not in state:
            state[name] = torch.zeros_like(state[MASTER])
        state[name].view(-1)[offset : offset + last - first] = values[first - source.start : last - source.start]
    state.update({name: scalar.clone() for name, scalar in source.scalars.items()})
    return last - first


def checksum(saved: SavedState) -> int:
    """A number that does not depend on how the states are cut into fragments: those of several ranks add up.

    The sum, modulo 2^64, of each element's bits times an odd number that its place decides (multilinear hashing).
    """
    total = 0
    for name, fragments in saved.items():
        for fragment in fragments:
            for key, values in fragment.states.items():
                places = torch.arange(fragment.start, fragment.start + fragment.size)
                bits = values.cpu().contiguous().view(torch.int32).long()
                total += int((bits * _factors(places, zlib.crc32(f"{name} {key}".encode()))).sum())
    return total % WORD


def _factors(places: Tensor, seed: int) -> Tensor:
    """An odd number for each place, (N,) int64: the mixing of splitmix64 (Steele et al. 2014); overflow wraps."""
    mixed = (places + (seed << 20)) * _signed(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        # The shift of a signed number copies its sign; the mask makes it that of an unsigned one.
        mixed = (mixed ^ (mixed >> shift & (1 << 64 - shift) - 1)) * _signed(factor)
    return mixed | 1


def _signed(word: int) -> int:
    """A word of 64 bits as torch.int64 reads it."""
    return word - WORD if word >= WORD // 2 else word
