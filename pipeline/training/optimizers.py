"""The optimizers: fused AdamW for everything, or Muon for the matrices inside the blocks and AdamW for the rest."""

from __future__ import annotations

from typing import Any

import torch

from gpt.model import GPT
from pipeline.config.training_sections import TrainingSection
from pipeline.training.muon import Muon


def optimizer_of(model: GPT, section: TrainingSection) -> torch.optim.AdamW:
    """The optimizer that a section asks for, over the model. Its learning rate is 0 until the engine sets it."""
    return (muon if section.optimizer == "muon" else adamw)(model, section)


def adamw(model: GPT, section: TrainingSection) -> torch.optim.AdamW:
    """Fused AdamW over matrices (decayed) and vectors (not): one torch optimizer for every ZeRO stage and dtype."""
    # Fused, because a loop over many small tensors costs more than their arithmetic.
    groups = [group for group in model.decay_groups(section.weight_decay) if group["params"]]
    return torch.optim.AdamW(groups, lr=0.0, betas=(section.beta1, section.beta2), fused=True)


def muon(model: GPT, section: TrainingSection) -> Muon:
    """Muon over `model.hidden_matrices()`, and AdamW over everything else."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    hidden = [(matrix, rows) for matrices, rows in model.hidden_matrices() for matrix in matrices]
    groups: list[dict[str, Any]] = [
        # One group for all of them, so that they share one exchange between the ranks.
        {"params": [matrix for matrix, _ in hidden], "weight_decay": section.weight_decay, "muon": True}
    ]
    of_muon = {id(matrix) for matrix, _ in hidden}
    for group in model.decay_groups(section.weight_decay):
        rest = [parameter for parameter in group["params"] if id(parameter) not in of_muon]
        groups += [{**group, "params": rest}] if rest else []
    matrices = {names[id(matrix)]: rows for matrix, rows in hidden}
    # Its arithmetic is on the fp32 copies, also where the weights are bf16.
    products = "fp32" if section.dtype == "fp32" else "mixed"
    return Muon(groups, matrices, products, lr=0.0, betas=(section.beta1, section.beta2), fused=True)
