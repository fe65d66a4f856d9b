"""The optimizers: fused AdamW for everything, or Muon for the matrices inside the blocks and AdamW for the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from gpt.model import GPT
from pipeline.config.schema import TrainingSection
from pipeline.runtime.precision import autocast_for

MOMENTUM = 0.95
# The quintic iteration of Jordan et al. 2024 takes every singular value above zero to about 1 in five rounds.
QUINTIC, ROUNDS = (3.4445, -4.7750, 2.0315), 5
ADAM_SIZE = 0.2  # root mean square of a typical AdamW update in units of its learning rate (Liu et al. 2025)


def optimizer_of(model: GPT, recipe: TrainingSection) -> torch.optim.AdamW:
    """The recipe's optimizer over the model. Its learning rate is set before each step."""
    return (muon if recipe.optimizer == "muon" else adamw)(model, recipe)


def adamw(model: GPT, recipe: TrainingSection) -> torch.optim.AdamW:
    """Fused AdamW over matrices (decayed) and vectors (not): one torch optimizer for every ZeRO stage and dtype."""
    groups = [group for group in model.decay_groups(recipe.weight_decay) if group["params"]]
    return torch.optim.AdamW(groups, lr=0.0, betas=(recipe.beta1, recipe.beta2), fused=True)


def muon(model: GPT, recipe: TrainingSection) -> Muon:
    """Muon over `model.hidden_matrices()`, a group for each kind, and AdamW over everything else."""
    kinds = model.hidden_matrices()
    hidden = {id(matrix) for matrices, _ in kinds for matrix in matrices}
    groups: list[dict[str, Any]] = [
        {"params": matrices, "rows": rows, "weight_decay": recipe.weight_decay} for matrices, rows in kinds
    ]
    for group in model.decay_groups(recipe.weight_decay):
        rest = [parameter for parameter in group["params"] if id(parameter) not in hidden]
        groups += [{**group, "params": rest}] if rest else []
    return Muon(groups, recipe.dtype, lr=0.0, betas=(recipe.beta1, recipe.beta2), fused=True)


class Muon(torch.optim.AdamW):
    """Muon for the groups that have `rows`, AdamW for the others.

    Momentum is orthogonalized, so that every direction of a matrix moves equally far (Jordan et al. 2024, "Muon: an
    optimizer for hidden layers in neural networks"). The update is scaled to the size of AdamW's, so that both share
    learning rate and weight decay (Liu et al. 2025, "Muon is scalable for LLM training"). `rows` cuts each matrix of
    a group into those that work apart. Every rank holds all of them, and orthogonalizes its share for all ranks, in
    the products of `dtype`.
    """

    def __init__(self, groups: list[dict[str, Any]], dtype: str, **settings: Any) -> None:
        super().__init__(groups, **settings)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        orthogonal = [group for group in self.param_groups if group.get("rows")]
        gradients = {
            parameter: parameter.grad
            for group in orthogonal
            for parameter in group["params"]
            if parameter.grad is not None
        }
        for group in orthogonal:
            self._move([parameter for parameter in group["params"] if parameter in gradients], group)
        for parameter in gradients:
            parameter.grad = None  # AdamW passes over what has none
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
        for matrix, update in zip(matrices, updates, strict=True):
            matrix.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])

    def _with_momentum(self, matrix: Tensor) -> Tensor:
        """The gradient looked at ahead of its running mean, as Nesterov does."""
        assert matrix.grad is not None, "called for matrices that have a gradient"
        state = self.state[matrix]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(matrix)
            state["step"] = torch.zeros(())  # AdamW's own loading looks for it in every state
        state["step"] += 1
        momentum: Tensor = state["momentum"].lerp_(matrix.grad, 1 - MOMENTUM)
        return matrix.grad.lerp(momentum, MOMENTUM)


def shared_out(matrices: Tensor, work: Callable[[Tensor], Tensor]) -> Tensor:
    """`work` over the first dimension, every rank doing its share of it: the same on all of them, to the last bit."""
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return work(matrices)
    done = torch.zeros_like(matrices)
    mine = slice(dist.get_rank(), None, dist.get_world_size())
    if len(matrices[mine]):
        done[mine] = work(matrices[mine])
    dist.all_reduce(done)  # adds zeros
    return done


def cut_and_orthogonalized(matrices: Tensor, rows: Sequence[int]) -> Tensor:
    """(L, M, N): each matrix cut after so many rows, and the pieces orthogonalized."""
    return torch.cat([orthogonalized(piece) for piece in torch.split(matrices, list(rows), dim=1)], dim=1)


def orthogonalized(matrices: Tensor) -> Tensor:
    """(L, M, N): the nearest semi-orthogonal matrix of each, to about 20 %, scaled to the size of AdamW's update."""
    _, rows, columns = matrices.shape
    wide = matrices if rows <= columns else matrices.mT  # the smaller side decides the cost
    wide = wide / wide.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)  # singular values at most 1
    a, b, c = QUINTIC
    for _ in range(ROUNDS):
        gram = wide @ wide.mT
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    whole = wide if rows <= columns else wide.mT
    scaled: Tensor = whole * (ADAM_SIZE * math.sqrt(max(rows, columns)))
    return scaled
