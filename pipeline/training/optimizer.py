"""AdamW with the model's own groups: one torch optimizer for every ZeRO stage and dtype."""

from __future__ import annotations

import torch

from gpt.model import GPT
from pipeline.graph.config import Training


def adamw(model: GPT, recipe: Training) -> torch.optim.AdamW:
    """Fused AdamW over matrices (decayed) and vectors (not). Its learning rate is set before each step."""
    groups = [group for group in model.decay_groups(recipe.weight_decay) if group["params"]]
    return torch.optim.AdamW(groups, lr=0.0, betas=(recipe.beta1, recipe.beta2), fused=True)
