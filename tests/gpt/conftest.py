"""What the tests of the whole model share: inputs, a model in which every part shows, and its mean loss."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gpt.model import GPT, GPTShape


@pytest.fixture(scope="session")
def tokens_of() -> Callable[..., Tensor]:
    """Random tokens (batch, context) for a shape."""

    def draw(shape: GPTShape, batch: int = 3, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(shape.vocab_size, (batch, shape.context), generator=generator)

    return draw


@pytest.fixture(scope="session")
def lively() -> Callable[..., GPT]:
    """Builds a model whose weights are far from their small start, so that every part shows in the logits."""

    def build(shape: GPTShape, seed: int = 0) -> GPT:
        model = GPT(shape).initialize(seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
        return model.eval()

    return build


@pytest.fixture(scope="session")
def mean_loss() -> Callable[[GPT, Tensor], Tensor]:
    """Nats per token of predicting each of tokens (B, T) but the first."""

    def loss(model: GPT, tokens: Tensor) -> Tensor:
        nats, count = model(tokens[:, :-1], tokens[:, 1:])
        return nats / count

    return loss
