from __future__ import annotations

import torch

from gpt.model import GPT, GPTShape
from pipeline.config.training_sections import PretrainSection
from pipeline.training.muon import Muon
from pipeline.training.optimizers import optimizer_of

SHAPE = GPTShape(
    vocab_size=17, layers=2, width=16, heads=4, context=8, kv_heads=2, position="rope", norm="rmsnorm", bias=False
)


def test_muon_moves_the_matrices_of_the_blocks_and_adamw_the_rest() -> None:
    optimizer = optimizer_of(GPT(SHAPE), PretrainSection(optimizer="muon"))
    assert isinstance(optimizer, Muon)
    # The matrices, then the embedding, which is decayed, and the norms, which are not.
    assert [(group.get("muon"), group["weight_decay"]) for group in optimizer.param_groups] == [
        (True, 0.1),
        (None, 0.1),
        (None, 0.0),
    ]
    assert len(optimizer.param_groups[0]["params"]) == 4 * SHAPE.layers
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(GPT(SHAPE).parameters()))
    assert isinstance(optimizer_of(GPT(SHAPE), PretrainSection()), torch.optim.AdamW)
    assert not isinstance(optimizer_of(GPT(SHAPE), PretrainSection()), Muon)
