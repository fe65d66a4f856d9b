import math

import pytest
import torch

from gpt.model import GPT, GPTShape
from pipeline.config.training_sections import PretrainSection
from pipeline.training.optimizers import MOMENTUM, Muon, muon, optimizer_of, orthogonalized

SHAPE = GPTShape(
    vocab_size=17, layers=2, width=16, heads=4, context=8, kv_heads=2, position="rope", norm="rmsnorm", bias=False
)


def random(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [(16, 16), (8, 32), (32, 8)], ids=str)
def test_orthogonalized_matrices_stretch_every_direction_about_equally(size: tuple[int, int]) -> None:
    matrices = random(3, *size)
    matrices[1] *= 1e-3  # the size of the gradient does not matter
    found = torch.linalg.svdvals(orthogonalized(matrices)) / (0.2 * math.sqrt(max(size)))
    assert torch.linalg.svdvals(random(*size)).max() > 2 * torch.linalg.svdvals(random(*size)).min()
    assert found.min() > 0.6 and found.max() < 1.3


def test_orthogonalized_matrices_keep_their_directions() -> None:
    left, right = torch.linalg.qr(random(8, 8))[0], torch.linalg.qr(random(12, 12, seed=1))[0]
    matrix = left @ torch.diag(torch.linspace(1.0, 3.0, 8)) @ right[:8]
    turned = left.T @ orthogonalized(matrix.unsqueeze(0))[0] @ right.T  # diagonal if the directions are the same
    off_diagonal = turned - torch.diag_embed(turned.diagonal()) if turned.shape[0] == turned.shape[1] else None
    assert off_diagonal is None
    torch.testing.assert_close(turned[:, :8] - torch.diag(turned.diagonal()), torch.zeros(8, 8), atol=1e-4, rtol=0)
    torch.testing.assert_close(turned[:, 8:], torch.zeros(8, 4), atol=1e-4, rtol=0)


def test_updates_are_as_large_as_those_of_adamw() -> None:
    for size in ((16, 64), (64, 64), (64, 16)):
        assert orthogonalized(random(1, *size)).square().mean().sqrt() == pytest.approx(0.2, rel=0.2)


def test_muon_moves_the_matrices_of_the_blocks_and_adamw_the_rest() -> None:
    optimizer = optimizer_of(GPT(SHAPE), PretrainSection(optimizer="muon", zero=0))
    assert isinstance(optimizer, Muon)
    assert [group.get("rows") for group in optimizer.param_groups] == [
        (16, 8, 8),
        (16,),
        (64,),
        (16,),
        None,  # the embedding, decayed
        None,  # norms, not decayed
    ]
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(GPT(SHAPE).parameters()))
    assert isinstance(optimizer_of(GPT(SHAPE), PretrainSection()), torch.optim.AdamW)
    assert not isinstance(optimizer_of(GPT(SHAPE), PretrainSection()), Muon)


def test_the_first_step_of_muon_is_the_one_computed_by_hand() -> None:
    model = GPT(SHAPE).initialize(1)
    optimizer = muon(model, PretrainSection(optimizer="muon", weight_decay=0.5))
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for index, parameter in enumerate(model.parameters()):
        parameter.grad = random(*parameter.shape, seed=index)
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    optimizer.step()

    name = "blocks.1.attention.qkv.weight"
    momentum = (1 - MOMENTUM) * gradients[name]
    ahead = (1 - MOMENTUM) * gradients[name] + MOMENTUM * momentum
    update = torch.cat([orthogonalized(part.unsqueeze(0))[0] for part in ahead.split((16, 8, 8))])
    after = dict(model.named_parameters())
    torch.testing.assert_close(after[name].detach(), before[name] * (1 - 0.1 * 0.5) - 0.1 * update)
    embedding = "token_embedding.weight"  # the first step of Adam has the size of the learning rate
    expected = before[embedding] * (1 - 0.1 * 0.5) - 0.1 * gradients[embedding].sign()
    torch.testing.assert_close(after[embedding].detach(), expected, atol=1e-5, rtol=1e-5)
    assert all(torch.equal(parameter.grad, gradients[name]) for name, parameter in after.items())


def test_muon_goes_on_from_its_saved_state() -> None:
    def stepped(optimizer: Muon, model: GPT, steps: range) -> None:
        for step in steps:
            for index, parameter in enumerate(model.parameters()):
                parameter.grad = random(*parameter.shape, seed=100 * step + index)
            for group in optimizer.param_groups:
                group["lr"] = 0.01
            optimizer.step()

    whole, first, second = GPT(SHAPE), GPT(SHAPE), GPT(SHAPE)
    stepped(muon(whole, PretrainSection()), whole, range(4))
    before = muon(first, PretrainSection())
    stepped(before, first, range(2))
    second.load_state_dict(first.state_dict())
    after = muon(second, PretrainSection())
    after.load_state_dict(before.state_dict())
    stepped(after, second, range(2, 4))
    assert all(torch.equal(one, other) for one, other in zip(whole.parameters(), second.parameters(), strict=True))
