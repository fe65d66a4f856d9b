"""Muon in one process. On several ranks and under ZeRO: tests/distributed/test_muon.py."""

from __future__ import annotations

import math

import pytest
import torch

from gpt.model import GPT, GPTShape
from pipeline.config.training_sections import PretrainSection
from pipeline.training.muon import MOMENTUM, Muon, Piece, _leaving, _parts, orthogonalized, shared_out
from pipeline.training.optimizers import muon
from pipeline.training.partitions import Fragment, Partition

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


def test_a_matrix_cut_into_partitions_moves_as_the_whole_one_does() -> None:
    whole, cut = GPT(SHAPE).initialize(1), GPT(SHAPE).initialize(1)
    optimizers = [muon(model, PretrainSection(weight_decay=0.5)) for model in (whole, cut)]
    group = optimizers[1].param_groups[0]
    names = {id(parameter): name for name, parameter in cut.named_parameters()}
    flat = torch.cat([matrix.detach().flatten() for matrix in group["params"]] + [torch.zeros(5)])
    fragments, offset = [], 0
    for matrix in group["params"]:
        fragments.append(Fragment(names[id(matrix)], 0, matrix.numel(), offset))
        offset += matrix.numel()
    # Cut in the middle of a row of the third matrix; what is beyond the last one is padding.
    at = fragments[2].offset + 7
    masters = [torch.nn.Parameter(part) for part in flat.split([at, len(flat) - at])]
    cut_fragment = fragments[2]
    own = [
        (*fragments[:2], cut_fragment._replace(size=7)),
        (
            Fragment(cut_fragment.parameter, 7, cut_fragment.size - 7, 0),
            *(fragment._replace(offset=fragment.offset - at) for fragment in fragments[3:]),
        ),
    ]
    group["params"] = masters
    optimizers[1].lie_in([Partition(*pair) for pair in zip(masters, own, strict=True)])
    for step in range(3):
        for index, (one, other) in enumerate(zip(whole.parameters(), cut.parameters(), strict=True)):
            one.grad = random(*one.shape, seed=10 * step + index)
            other.grad = one.grad.clone()
        gradients = torch.cat([matrix.grad.flatten() for matrix in optimizers[0].param_groups[0]["params"]])
        masters[0].grad, masters[1].grad = gradients[:at].clone(), torch.cat([gradients[at:], torch.zeros(5)])
        for optimizer in optimizers:
            for each in optimizer.param_groups:
                each["lr"] = 0.1
            optimizer.step()
    expected = torch.cat([matrix.detach().flatten() for matrix in optimizers[0].param_groups[0]["params"]])
    moved = torch.cat([master.detach() for master in masters])
    torch.testing.assert_close(moved[:-5], expected, rtol=1e-5, atol=1e-6)
    assert moved[-5:].abs().max() == 0, "padding stays"


def test_the_pieces_are_shared_out_by_what_they_cost() -> None:
    pieces = [Piece(f"m{index}", 0, rows, 8) for index, rows in enumerate((8, 8, 32, 8, 32, 8, 8, 8))]
    shares = shared_out(pieces, 3)
    assert sorted(piece for share in shares for piece in share) == sorted(pieces)
    costs = [sum(piece.cost for piece in share) for share in shares]
    assert max(costs) - min(costs) <= max(piece.cost for piece in pieces)
    assert shares == [sorted(share, key=lambda piece: (piece.rows, piece.columns)) for share in shares]


def test_parts_of_a_piece_are_where_it_overlaps_with_what_a_rank_holds() -> None:
    share = [Piece("a", 0, 2, 4), Piece("b", 8, 1, 4)]  # b's second rows, behind a in the owner's vector
    held = [Fragment("a", 4, 6, 0), Fragment("b", 0, 10, 6)]
    assert _parts(share, held) == [((0, 4), (4, 4)), ((14, 2), (8, 2))]
    assert _parts(share, [Fragment("c", 0, 8, 0)]) == []


def test_nobody_sends_to_an_owner_what_it_has_itself() -> None:
    everything = [((0, 8), (0, 8))]
    assert _leaving([everything, everything], owner=0, holder=0) == everything
    assert _leaving([everything, everything], owner=0, holder=1) == []
    halves = [[((0, 4), (0, 4))], [((0, 4), (4, 4))]]
    assert [_leaving(halves, owner=0, holder=holder) for holder in (0, 1)] == halves
