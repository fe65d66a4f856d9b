from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from gpt.attention import Cache, attend, rotate, rotation_table
from gpt.model import GPT, GPTShape, ShapeError

Lively = Callable[..., GPT]
TokensOf = Callable[..., Tensor]
TINY = GPTShape(vocab_size=17, layers=2, width=16, heads=4, context=8)
MODERN = replace(TINY, position="rope", norm="rmsnorm", activation="relu2", qk_norm=True, bias=False)
EVERYTHING = replace(
    MODERN, kv_heads=2, residual_scalars=True, value_embeddings=True, logit_softcap=3.0, document_start=5
)


def random(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def test_a_quarter_turn_takes_one_and_two_to_minus_two_and_one() -> None:
    quarter = torch.tensor([[[0.0, 1.0]]])  # cosine and sine of the only pair, at the only position
    torch.testing.assert_close(rotate(torch.tensor([[[[1.0, 2.0]]]]), quarter), torch.tensor([[[[-2.0, 1.0]]]]))


def test_rotation_angles_are_position_times_frequency() -> None:
    table = rotation_table(context=3, head_width=4)
    angles = torch.tensor([[0.0, 0.0], [1.0, 0.01], [2.0, 0.02]])  # frequencies 1 and 10,000 ** -1/2
    torch.testing.assert_close(table, torch.stack((angles.cos(), angles.sin()), dim=-1))


def test_rotated_products_depend_on_the_distance_alone() -> None:
    q, k = random(1, 1, 1, 8), random(1, 1, 1, 8, seed=1)
    table = rotation_table(context=64, head_width=8)
    turned_q, turned_k = rotate(q.expand(1, 64, 1, 8), table), rotate(k.expand(1, 64, 1, 8), table)
    scores = turned_q[0, :, 0] @ turned_k[0, :, 0].T  # (query position, key position)
    for distance in (-9, 0, 5):
        same = scores.diagonal(distance)
        torch.testing.assert_close(same, same[:1].expand_as(same), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(scores[0, 0], scores[0, 5], atol=1e-2)


def test_rotation_keeps_lengths() -> None:
    x = random(2, 16, 3, 8)
    torch.testing.assert_close(rotate(x, rotation_table(16, 8)).norm(dim=-1), x.norm(dim=-1))


def test_attention_weighs_values_by_the_softmax_of_scores() -> None:
    # D = 1, so the scores are q k / 1: the second query sees scores 0 and log 3, thus weights 1/4 and 3/4.
    q = torch.tensor([0.0, 1.0]).view(1, 1, 2, 1)
    k = torch.tensor([0.0, 3.0]).log().clamp_min(0).view(1, 1, 2, 1)
    v = torch.tensor([4.0, 8.0]).view(1, 1, 2, 1)
    torch.testing.assert_close(attend(q, k, v, 0.0).flatten(), torch.tensor([4.0, 7.0]))


@pytest.mark.parametrize("new", [1, 2, 5])
def test_last_queries_see_what_they_see_among_all(new: int) -> None:
    q, k, v = random(2, 4, 6, 8), random(2, 2, 6, 8, seed=1), random(2, 2, 6, 8, seed=2)
    everything = attend(q, k, v, 0.0)
    torch.testing.assert_close(attend(q[:, :, -new:], k, v, 0.0), everything[:, :, -new:])


class SingleHead(nn.Module):
    """The lecture's `Head`, with the scale of the published transformer (one over the root of the head's width)."""

    def __init__(self, width: int, head_width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, head_width)
        self.key = nn.Linear(width, head_width)
        self.value = nn.Linear(width, head_width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.query(x), self.key(x), self.value(x)
        scores = q @ k.transpose(-2, -1) * k.shape[-1] ** -0.5
        past = torch.ones(x.shape[1], x.shape[1]).tril().bool()
        return scores.masked_fill(~past, float("-inf")).softmax(dim=-1) @ v


def test_all_heads_at_once_equal_a_list_of_single_heads(lively: Lively) -> None:
    attention = lively(TINY).double().blocks[0].attention
    heads = nn.ModuleList(SingleHead(16, 4) for _ in range(4)).double()
    output = nn.Linear(16, 16).double()
    output.load_state_dict(attention.output.state_dict())
    for index, head in enumerate(heads):
        for part, linear in enumerate((head.query, head.key, head.value)):
            rows = slice(16 * part + 4 * index, 16 * part + 4 * index + 4)
            linear.weight.data = attention.qkv.weight.data[rows].clone()
            linear.bias.data = attention.qkv.bias.data[rows].clone()

    x = torch.randn(3, 8, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    at_once, one_by_one = x.clone().requires_grad_(), x.clone().requires_grad_()
    fused = attention(at_once)
    listed = output(torch.cat([head(one_by_one) for head in heads], dim=-1))
    torch.testing.assert_close(fused, listed)

    fused.square().sum().backward()
    listed.square().sum().backward()
    torch.testing.assert_close(at_once.grad, one_by_one.grad)
    by_part = [[getattr(head, part).weight.grad for head in heads] for part in ("query", "key", "value")]
    torch.testing.assert_close(attention.qkv.weight.grad, torch.cat([torch.cat(part) for part in by_part]))
    torch.testing.assert_close(attention.output.weight.grad, output.weight.grad)


@pytest.mark.parametrize("base", [TINY, MODERN], ids=["gpt-2", "modern"])
def test_grouped_heads_equal_repeated_keys_and_values(base: GPTShape, lively: Lively, tokens_of: TokensOf) -> None:
    grouped, full = lively(replace(base, kv_heads=2)), lively(base)
    weights = grouped.state_dict()
    for name, parameter in list(weights.items()):
        if ".qkv." in name:
            q, k, v = parameter.split((16, 8, 8))
            twice = [part.unflatten(0, (2, 4)).repeat_interleave(2, dim=0).flatten(0, 1) for part in (k, v)]
            weights[name] = torch.cat((q, *twice))
    full.load_state_dict(weights)
    tokens = tokens_of(base)
    torch.testing.assert_close(grouped(tokens), full(tokens))


@pytest.mark.parametrize("shape", [TINY, MODERN, replace(MODERN, kv_heads=2)], ids=["gpt-2", "modern", "grouped"])
def test_later_tokens_do_not_change_earlier_logits(shape: GPTShape, lively: Lively, tokens_of: TokensOf) -> None:
    model, tokens = lively(shape), tokens_of(shape)
    before = model(tokens)
    changed = tokens.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % shape.vocab_size
    after = model(changed)
    torch.testing.assert_close(after[:, :5], before[:, :5])
    assert not torch.allclose(after[:, 5], before[:, 5])


def test_earlier_tokens_change_later_logits(lively: Lively, tokens_of: TokensOf) -> None:
    model, tokens = lively(MODERN), tokens_of(MODERN)
    changed = tokens.clone()
    changed[:, 0] = (changed[:, 0] + 1) % MODERN.vocab_size
    assert not torch.allclose(model(changed)[:, -1], model(tokens)[:, -1])


@pytest.mark.parametrize("shape", [TINY, MODERN], ids=["learned", "rope"])
def test_one_layer_tells_the_order_of_earlier_tokens(shape: GPTShape, lively: Lively) -> None:
    """Without positions the last token would see the earlier ones as a set."""
    model, tokens = lively(replace(shape, layers=1)), torch.tensor([[3, 5, 7]])
    assert not torch.allclose(model(tokens)[:, -1], model(tokens[:, [1, 0, 2]])[:, -1], atol=1e-3)


@pytest.mark.parametrize(
    "shape",
    [TINY, MODERN, replace(MODERN, kv_heads=2), EVERYTHING],
    ids=["gpt-2", "modern", "grouped", "everything"],
)
@pytest.mark.parametrize("cuts", [(1,) * 8, (5, 1, 2), (3, 5)], ids=str)
def test_cached_pieces_equal_one_forward(
    shape: GPTShape, cuts: tuple[int, ...], lively: Lively, tokens_of: TokensOf
) -> None:
    model, tokens = lively(shape), tokens_of(shape)
    cache = Cache(shape, batch=3, device=tokens.device, dtype=torch.float32)
    with torch.no_grad():
        pieces = [model(piece, cache=cache) for piece in tokens.split(cuts, dim=1)]
        torch.testing.assert_close(torch.cat(pieces, dim=1), model(tokens))


def test_masked_documents_are_read_as_if_each_were_alone(lively: Lively) -> None:
    model = lively(replace(MODERN, document_start=5, layers=3))
    first, second = torch.tensor([[5, 1, 2]]), torch.tensor([[5, 3, 4, 6]])
    together = model(torch.cat((first, second), dim=1))
    alone = torch.cat((model(first), model(second)), dim=1)  # rotary positions see distances alone
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(lively(replace(MODERN, layers=3))(torch.cat((first, second), dim=1)), alone, atol=1e-2)


def test_value_embeddings_lie_in_every_second_layer_up_to_the_last() -> None:
    layers = [GPT(replace(TINY, layers=n, value_embeddings=True)).blocks for n in (3, 4)]
    assert [[block.attention.value_embedding is not None for block in blocks] for blocks in layers] == [
        [True, False, True],
        [False, True, False, True],
    ]


def test_more_tokens_than_the_context_are_refused() -> None:
    model = GPT(TINY)
    with pytest.raises(ShapeError, match=r"9 tokens after 0 .* context of 8"):
        model(torch.zeros(1, 9, dtype=torch.int64))
    cache = Cache(TINY, batch=1, device=torch.device("cpu"), dtype=torch.float32)
    with torch.no_grad():
        model(torch.zeros(1, 8, dtype=torch.int64), cache=cache)
    with pytest.raises(ShapeError, match="1 tokens after 8"):
        model(torch.zeros(1, 1, dtype=torch.int64), cache=cache)
