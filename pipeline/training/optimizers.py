"""The optimizers: fused AdamW for everything, or Muon for the matrices inside the blocks and AdamW for the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from gpt.model import GPT
from pipeline.config.training_sections import TrainingSection
from pipeline.runtime.precision import autocast_for

MOMENTUM = 0.95
# The quintic iteration of Jordan et al. 2024 takes every singular value above zero to about 1 in five rounds.
QUINTIC, ROUNDS = (3.4445, -4.7750, 2.0315), 5
ADAM_SIZE = 0.2  # root mean square of a typical AdamW update in units of its learning rate (Liu et al. 2025)


def optimizer_of(model: GPT, section: TrainingSection) -> torch.optim.AdamW:
    """The optimizer that a section asks for, over the model. Its learning rate is 0 until the engine sets it."""
    return (muon if section.optimizer == "muon" else adamw)(model, section)


def adamw(model: GPT, section: TrainingSection) -> torch.optim.AdamW:
    """Fused AdamW over matrices (decayed) and vectors (not): one torch optimizer for every ZeRO stage and dtype."""
    # Fused, because a loop over many small tensors costs more than their arithmetic.
    groups = [group for group in model.decay_groups(section.weight_decay) if group["params"]]
    return torch.optim.AdamW(groups, lr=0.0, betas=(section.beta1, section.beta2), fused=True)


def muon(model: GPT, section: TrainingSection) -> Muon:
    """Muon over `model.hidden_matrices()`, a group for each kind, and AdamW over everything else."""
    kinds = model.hidden_matrices()
    hidden = {id(matrix) for matrices, _ in kinds for matrix in matrices}
    groups: list[dict[str, Any]] = [
        {"params": matrices, "rows": rows, "weight_decay": section.weight_decay} for matrices, rows in kinds
    ]
    for group in model.decay_groups(section.weight_decay):
        rest = [parameter for parameter in group["params"] if id(parameter) not in hidden]
        groups += [{**group, "params": rest}] if rest else []
    return Muon(groups, section.dtype, lr=0.0, betas=(section.beta1, section.beta2), fused=True)


class Muon(torch.optim.AdamW):
    """Muon for the groups that have `rows`, AdamW for the others.

    Momentum is orthogonalized, so that every direction of a matrix moves equally far (Jordan et al. 2024, "Muon: an
    optimizer for hidden layers in neural networks"). The update is scaled to the size of AdamW's, so that both share
    learning rate and weight decay (Liu et al. 2025, "Muon is scalable for LLM training"). `rows` cuts each matrix of
    a group into those that work apart, such as query, key and value. Every rank holds all matrices, and orthogonalizes
    its share for all ranks, with matrix products in `dtype`.
    """

    def __init__(self, groups: list[dict[str, Any]], dtype: str, **settings: Any) -> None:
        super().__init__(groups, **settings)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every group; gradients stay as they are. Collective where there are several ranks."""
        orthogonal = [group for group in self.param_groups if group.get("rows")]
        gradients = {
            parameter: parameter.grad
            for group in orthogonal
            for parameter in group["params"]
            if parameter.grad is not None
        }
        for group in orthogonal:
            self._move([parameter for parameter in group["params"] if parameter in gradients], group)
        # AdamW passes over parameters without a gradient. They get theirs back: dropping gradients is up to the caller.
        for parameter in gradients:
            parameter.grad = None
        loss = super().step(closure)
        for parameter, gradient in gradients.items():
            parameter.grad = gradient
        return loss

    def _move(self, matrices: Sequence[Tensor], group: dict[str, Any]) -> None:
        if not matrices:
            return
        directions = torch.stack([self._with_momentum(matrix) for matrix in matrices])  # (L, M, N)
        with autocast_for(self.dtype, directions.device.type):
            updates = shared_out(directions, lambda share: cut_and_orthogonalized(share, group["rows"]))
        # Decay first and apart from the gradient, as AdamW does (Loshchilov and Hutter 2019).
        for matrix, update in zip(matrices, updates, strict=True):
            matrix.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])

    def _with_momentum(self, matrix: Tensor) -> Tensor:
        """The gradient with its running mean, looked at one step ahead, as Nesterov does."""
        assert matrix.grad is not None, "called for matrices that have a gradient"
        state = self.state[matrix]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(matrix)
            state["step"] = torch.zeros(())  # AdamW's own loading looks for it in every state
        state["step"] += 1
        momentum: Tensor = state["momentum"].lerp_(matrix.grad, 1 - MOMENTUM)
        return matrix.grad.lerp(momentum, MOMENTUM)


def shared_out(matrices: Tensor, work: Callable[[Tensor], Tensor]) -> Tensor:
    """`work` done on every matrix of the first dimension, each rank doing its share. Collective.

    The result is the same on all ranks to the last bit, which keeps their weights equal without ever comparing them.
    """
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return work(matrices)
    done = torch.zeros_like(matrices)
    mine = slice(dist.get_rank(), None, dist.get_world_size())
    if len(matrices[mine]):
        done[mine] = work(matrices[mine])
    dist.all_reduce(done)  # one rank's result and zeros: exact in any order of adding
    return done


def cut_and_orthogonalized(matrices: Tensor, rows: Sequence[int]) -> Tensor:
    """(L, M, N): each matrix cut into pieces of `rows` rows, every piece orthogonalized by itself."""
    return torch.cat([orthogonalized(piece) for piece in torch.split(matrices, list(rows), dim=1)], dim=1)


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
