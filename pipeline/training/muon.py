"""Muon for the matrices inside the blocks, AdamW for the rest, on whole parameters or on ZeRO's partitions of them.

Momentum is orthogonalized, so that every direction of a matrix moves equally far (Jordan et al. 2024, "Muon: an
optimizer for hidden layers in neural networks"). The update is scaled to the size of AdamW's, so that both share
learning rate and weight decay (Liu et al. 2025, "Muon is scalable for LLM training"). Why not DeepSpeed's own Muon:
docs/decisions/muon-under-zero.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.distributed.collectives import all_gather
from pipeline.runtime.precision import autocast_for
from pipeline.training.partitions import Fragment, Partition, Route, Run

MOMENTUM = 0.95
# The quintic iteration of Jordan et al. 2024 takes every singular value above zero to about 1 in five rounds.
QUINTIC, ROUNDS = (3.4445, -4.7750, 2.0315), 5
ADAM_SIZE = 0.2  # root mean square of a typical AdamW update in units of its learning rate (Liu et al. 2025)


class Piece(NamedTuple):
    """Rows of a matrix that work apart from its others, such as its queries: orthogonalized by themselves."""

    matrix: str
    start: int  # of the first element, in the flattened matrix
    rows: int
    columns: int

    @property
    def size(self) -> int:
        return self.rows * self.columns

    @property
    def cost(self) -> int:
        """In proportion to the operations that orthogonalizing takes."""
        return self.size * min(self.rows, self.columns)


class Muon(torch.optim.AdamW):
    """Muon for the group that has `muon` set, AdamW for the others.

    `matrices` says how the rows of each of its matrices, (M, N) by name and in order, divide into pieces. Every rank
    keeps the momentum of what it holds. Whole pieces meet on one rank each, which orthogonalizes them for all, with
    matrix products in `dtype`; so all ranks have the same result to the last bit.
    """

    def __init__(
        self, groups: list[dict[str, Any]], matrices: Mapping[str, Sequence[int]], dtype: str, **settings: Any
    ) -> None:
        super().__init__(groups, **settings)
        self.dtype = dtype
        self._pieces: dict[str, list[Piece]] = {}
        self._partitions: dict[int, Partition] = {}  # by the identity of the tensor that the optimizer is given
        self._meetings: dict[tuple[int, ...], Meeting] = {}
        [group] = [group for group in self.param_groups if group.get("muon")]
        whole = []
        for (name, rows), matrix in zip(matrices.items(), group["params"], strict=True):
            starts = [sum(rows[:index]) * matrix.shape[1] for index in range(len(rows))]
            self._pieces[name] = [Piece(name, start, n, matrix.shape[1]) for start, n in zip(starts, rows, strict=True)]
            whole.append(Partition(matrix, (Fragment(name, 0, matrix.numel(), 0),)))
        self.lie_in(whole)

    def lie_in(self, partitions: Sequence[Partition]) -> None:
        """From now on the groups hold these tensors in place of whole matrices."""
        self._partitions = {id(partition.master): partition for partition in partitions}
        self._meetings.clear()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every group; gradients stay as they are. Collective where there are several ranks."""
        moved = [
            parameter
            for group in self.param_groups
            if group.get("muon")
            for parameter in self._move(group)
        ]  # fmt: skip
        # AdamW passes over parameters without a gradient. They get theirs back: dropping gradients is up to the caller.
        gradients = [parameter.grad for parameter in moved]
        for parameter in moved:
            parameter.grad = None
        loss = super().step(closure)
        for parameter, gradient in zip(moved, gradients, strict=True):
            parameter.grad = gradient
        return loss

    def _move(self, group: dict[str, Any]) -> list[Tensor]:
        """Update the tensors of a group that have a gradient; which they were."""
        moved: list[Tensor] = [parameter for parameter in group["params"] if parameter.grad is not None]
        if not moved:
            return moved
        directions = torch.cat([self._with_momentum(parameter).flatten() for parameter in moved])  # (N,)
        updates = self._meeting(moved).orthogonalize(directions, self.dtype)
        parts = torch.split(updates, [parameter.numel() for parameter in moved])
        # Decay first and apart from the gradient, as AdamW does (Loshchilov and Hutter 2019).
        for parameter, update in zip(moved, parts, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(update.view_as(parameter), alpha=-group["lr"])
        return moved

    def _with_momentum(self, parameter: Tensor) -> Tensor:
        """The gradient with its running mean, looked at one step ahead, as Nesterov does."""
        assert parameter.grad is not None, "called for what has a gradient"
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
            state["step"] = torch.zeros(())  # AdamW's own loading looks for it in every state
        state["step"] += 1
        momentum: Tensor = state["momentum"].lerp_(parameter.grad, 1 - MOMENTUM)
        return parameter.grad.lerp(momentum, MOMENTUM)

    def _meeting(self, moved: Sequence[Tensor]) -> Meeting:
        key = tuple(map(id, moved))
        if key not in self._meetings:
            fragments, offset = [], 0
            for parameter in moved:
                own = self._partitions[id(parameter)].fragments
                fragments += [fragment._replace(offset=fragment.offset + offset) for fragment in own]
                offset += parameter.numel()
            self._meetings[key] = Meeting(self._pieces, fragments)
        return self._meetings[key]


class Meeting:
    """Which rank orthogonalizes which pieces, how their parts get there, and how the results get back.

    `fragments` are those of this rank in a vector of directions. Building it is collective.
    """

    def __init__(self, pieces: Mapping[str, Sequence[Piece]], fragments: Sequence[Fragment]) -> None:
        held = all_gather(list(fragments)) if dist.is_initialized() else [list(fragments)]
        rank = dist.get_rank() if dist.is_initialized() else 0
        # What a rank gave is compared with what others gave, so the order is that of the model and not of a rank.
        present = {fragment.parameter for own in held for fragment in own}
        shares = shared_out([piece for name in pieces if name in present for piece in pieces[name]], len(held))
        parts = [[_parts(share, own) for own in held] for share in shares]  # by owner, then by holder
        self._own = shares[rank]
        self._there = Route(
            sent=[[held_run for held_run, _ in _leaving(parts[owner], owner, rank)] for owner in range(len(held))],
            received=[[met_run for _, met_run in _leaving(parts[rank], rank, holder)] for holder in range(len(held))],
        )
        self._back = Route(
            sent=[[met_run for _, met_run in parts[rank][holder]] for holder in range(len(held))],
            received=[[held_run for held_run, _ in parts[owner][rank]] for owner in range(len(held))],
        )

    def orthogonalize(self, directions: Tensor, dtype: str) -> Tensor:
        """The updates (N,) for this rank's part (N,) of the directions of all matrices. Collective."""
        met = directions.new_empty(sum(piece.size for piece in self._own))
        self._there.carry(directions, met)
        with autocast_for(dtype, directions.device.type):
            # Pieces of one shape lie side by side, and are worked on as one batch.
            start = 0
            for (rows, columns), alike in groupby(self._own, lambda piece: (piece.rows, piece.columns)):
                batch = met[start : (start := start + len(list(alike)) * rows * columns)].view(-1, rows, columns)
                batch.copy_(orthogonalized(batch))
        updates = torch.zeros_like(directions)  # padding does not move
        self._back.carry(met, updates)
        return updates


def shared_out(pieces: Sequence[Piece], ranks: int) -> list[list[Piece]]:
    """The pieces of each rank, so that all have about as much to do; those of one shape side by side."""
    shares: list[list[Piece]] = [[] for _ in range(ranks)]
    costs = [0] * ranks
    for piece in sorted(pieces, key=lambda piece: -piece.cost):
        least = costs.index(min(costs))
        shares[least].append(piece)
        costs[least] += piece.cost
    return [sorted(share, key=lambda piece: (piece.rows, piece.columns)) for share in shares]


def _parts(share: Sequence[Piece], fragments: Sequence[Fragment]) -> list[tuple[Run, Run]]:
    """What a holder of fragments has of an owner's pieces: each run in the holder's vector, and in the owner's."""
    parts, base = [], 0
    for piece in share:
        for name, start, size, offset in fragments:
            first, last = max(start, piece.start), min(start + size, piece.start + piece.size)
            if name == piece.matrix and first < last:
                here, there = offset + first - start, base + first - piece.start
                parts.append(((here, last - first), (there, last - first)))
        base += piece.size
    return parts


def _leaving(by_holder: Sequence[Sequence[tuple[Run, Run]]], owner: int, holder: int) -> Sequence[tuple[Run, Run]]:
    """What a holder sends to an owner: its parts, unless the owner has them itself, as where all hold everything."""
    own = {there for _, there in by_holder[owner]}
    return [part for part in by_holder[holder] if holder == owner or part[1] not in own]


def orthogonalized(matrices: Tensor) -> Tensor:
    """(L, M, N): the nearest semi-orthogonal matrix of each, to about 20 %, scaled to the size of AdamW's update."""
    _, rows, columns = matrices.shape
    wide = matrices if rows <= columns else matrices.mT  # the smaller side decides the cost
    wide = wide / wide.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)  # singular values at most 1
    # p(s) = a s + b s^3 + c s^5 on every singular value s, by products of matrices alone: no decomposition.
    a, b, c = QUINTIC
    for _ in range(ROUNDS):
        gram = wide @ wide.mT
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    whole = wide if rows <= columns else wide.mT
    scaled: Tensor = whole * (ADAM_SIZE * math.sqrt(max(rows, columns)))
    return scaled
