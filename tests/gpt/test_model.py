from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.model import GPT, Cache, FeedForward, GPTShape, ShapeError

TINY = GPTShape(vocab_size=17, layers=2, width=16, heads=4, context=8)
MODERN = replace(TINY, position="rope", norm="rmsnorm", activation="relu2", qk_norm=True, bias=False)

VARIANTS = {
    "rope": {"position": "rope"},
    "rmsnorm": {"norm": "rmsnorm"},
    "relu": {"activation": "relu"},
    "relu2": {"activation": "relu2"},
    "swiglu": {"activation": "swiglu"},
    "hidden": {"hidden": 24},
    "qk norm": {"qk_norm": True},
    "no bias": {"bias": False},
    "no qkv bias": {"qkv_bias": False},
    "untied": {"tie_embeddings": False},
    "dropout": {"dropout": 0.2},
    "grouped heads": {"kv_heads": 2},
    "one key-value head": {"kv_heads": 1},
    "residual scalars": {"residual_scalars": True},
    "value embeddings": {"value_embeddings": True},
    "value embeddings of grouped heads": {"value_embeddings": True, "kv_heads": 2},
    "logit softcap": {"logit_softcap": 3.0},
    "document mask": {"document_start": 5},
}


def tokens_of(shape: GPTShape, batch: int = 3, seed: int = 0) -> Tensor:
    return torch.randint(shape.vocab_size, (batch, shape.context), generator=torch.Generator().manual_seed(seed))


def lively(shape: GPTShape, seed: int = 0) -> GPT:
    """A model whose weights are far from their small start, so that every part shows in the logits."""
    model = GPT(shape).initialize(seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return model.eval()


def mean_loss(model: GPT, tokens: Tensor) -> Tensor:
    nats, count = model(tokens[:, :-1], tokens[:, 1:])
    return nats / count


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


def test_all_heads_at_once_equal_a_list_of_single_heads() -> None:
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
@pytest.mark.parametrize("change", VARIANTS.values(), ids=VARIANTS)
def test_every_option_learns_a_batch(change: dict[str, object], base: GPTShape) -> None:
    model = GPT(replace(base, **change)).train()
    tokens = tokens_of(model.shape)
    optimizer = torch.optim.AdamW(model.decay_groups(0.1), lr=1e-2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        losses = []
        for _ in range(10):
            optimizer.zero_grad()
            loss = mean_loss(model, tokens)
            loss.backward()
            assert all(parameter.grad is not None for parameter in model.parameters())
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1


@pytest.mark.parametrize(
    "change", [v for v in VARIANTS.values() if "dropout" not in v], ids=set(VARIANTS) - {"dropout"}
)
def test_every_option_changes_the_logits(change: dict[str, object]) -> None:
    """Wherever the parameters still fit they are the same, so the difference is the option itself."""
    plain, changed = lively(TINY), lively(replace(TINY, **change))
    kept = plain.state_dict()
    fitting = {
        name: kept[name] for name, p in changed.state_dict().items() if name in kept and kept[name].shape == p.shape
    }
    changed.load_state_dict(fitting, strict=False)
    tokens = tokens_of(TINY)
    assert not torch.allclose(plain(tokens), changed(tokens), atol=1e-3)


@pytest.mark.parametrize(
    ("activation", "up", "expected"),
    [
        ("relu", [[1.0]], [0.0, 2.0]),
        ("gelu", [[1.0]], [-0.158808, 1.954598]),  # the tanh form; the exact one is -0.158655 and 1.954500
        ("relu2", [[1.0]], [0.0, 4.0]),
        ("swiglu", [[1.0], [3.0]], [0.806824, 10.569565]),  # x / (1 + exp(-x)) times 3 x
    ],
)
def test_activations_of_minus_one_and_two(activation: str, up: list[list[float]], expected: list[float]) -> None:
    feed_forward = FeedForward(GPTShape(2, 1, 1, 1, 1, hidden=1, activation=activation, bias=False))
    feed_forward.up.weight.data = torch.tensor(up)
    feed_forward.down.weight.data = torch.ones(1, 1)
    torch.testing.assert_close(
        feed_forward(torch.tensor([[-1.0], [2.0]])).flatten(), torch.tensor(expected), atol=1e-6, rtol=1e-6
    )


def test_dropout_acts_in_training_only() -> None:
    model = lively(replace(TINY, dropout=0.2))
    tokens = tokens_of(TINY)
    assert torch.equal(model(tokens), model(tokens))
    torch.testing.assert_close(model(tokens), lively(TINY)(tokens))
    model.train()
    assert not torch.equal(model(tokens), model(tokens))


@pytest.mark.parametrize("shape", [TINY, MODERN, replace(MODERN, kv_heads=2)], ids=["gpt-2", "modern", "grouped"])
def test_later_tokens_do_not_change_earlier_logits(shape: GPTShape) -> None:
    model, tokens = lively(shape), tokens_of(shape)
    before = model(tokens)
    changed = tokens.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % shape.vocab_size
    after = model(changed)
    torch.testing.assert_close(after[:, :5], before[:, :5])
    assert not torch.allclose(after[:, 5], before[:, 5])


def test_earlier_tokens_change_later_logits() -> None:
    model, tokens = lively(MODERN), tokens_of(MODERN)
    changed = tokens.clone()
    changed[:, 0] = (changed[:, 0] + 1) % MODERN.vocab_size
    assert not torch.allclose(model(changed)[:, -1], model(tokens)[:, -1])


@pytest.mark.parametrize("shape", [TINY, MODERN], ids=["learned", "rope"])
def test_one_layer_tells_the_order_of_earlier_tokens(shape: GPTShape) -> None:
    """Without positions the last token would see the earlier ones as a set."""
    model, tokens = lively(replace(shape, layers=1)), torch.tensor([[3, 5, 7]])
    assert not torch.allclose(model(tokens)[:, -1], model(tokens[:, [1, 0, 2]])[:, -1], atol=1e-3)


@pytest.mark.parametrize("base", [TINY, MODERN], ids=["gpt-2", "modern"])
def test_grouped_heads_equal_repeated_keys_and_values(base: GPTShape) -> None:
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


EVERYTHING = replace(
    MODERN, kv_heads=2, residual_scalars=True, value_embeddings=True, logit_softcap=3.0, document_start=5
)


@pytest.mark.parametrize(
    "shape",
    [TINY, MODERN, replace(MODERN, kv_heads=2), EVERYTHING],
    ids=["gpt-2", "modern", "grouped", "everything"],
)
@pytest.mark.parametrize("cuts", [(1,) * 8, (5, 1, 2), (3, 5)], ids=str)
def test_cached_pieces_equal_one_forward(shape: GPTShape, cuts: tuple[int, ...]) -> None:
    model, tokens = lively(shape), tokens_of(shape)
    cache = Cache(shape, batch=3, device=tokens.device, dtype=torch.float32)
    with torch.no_grad():
        pieces = [model(piece, cache=cache) for piece in tokens.split(cuts, dim=1)]
        torch.testing.assert_close(torch.cat(pieces, dim=1), model(tokens))


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_checkpointed_activations_give_the_same_gradients(dropout: float) -> None:
    gradients = []
    for checkpointed in (False, True):
        model = GPT(replace(EVERYTHING, dropout=dropout)).train()
        model.checkpoint_activations = checkpointed
        with torch.random.fork_rng():
            torch.manual_seed(0)
            mean_loss(model, tokens_of(EVERYTHING)).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(plain, again) for plain, again in zip(*gradients, strict=True))


def test_initial_weights_depend_on_the_seed_only() -> None:
    torch.manual_seed(1)
    first = GPT(MODERN).initialize(7).state_dict()
    torch.manual_seed(2)
    second = GPT(MODERN).initialize(3).initialize(7).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = GPT(MODERN).initialize(8).state_dict()
    assert not torch.equal(first["token_embedding.weight"], other["token_embedding.weight"])


def test_initial_deviations_are_those_of_gpt2() -> None:
    model = GPT(replace(TINY, vocab_size=500, layers=8, width=128))
    deviations = {name: parameter.std().item() for name, parameter in model.named_parameters() if parameter.ndim == 2}
    residual = ("attention.output.weight", "feed_forward.down.weight")
    for name, deviation in deviations.items():
        expected = 0.02 / 4 if name.endswith(residual) else 0.02
        assert deviation == pytest.approx(expected, rel=0.05), name
    assert sum(name.endswith(residual) for name in deviations) == 16


@pytest.mark.parametrize(
    "shape", [TINY, MODERN, replace(TINY, tie_embeddings=False)], ids=["gpt-2", "modern", "untied"]
)
def test_loss_at_the_start_is_that_of_a_uniform_guess(shape: GPTShape) -> None:
    shape = replace(shape, vocab_size=1000, width=64, context=64)
    tokens = tokens_of(shape, batch=8)
    assert mean_loss(GPT(shape).eval(), tokens).item() == pytest.approx(torch.tensor(1000.0).log().item(), abs=0.1)


def test_loss_equals_cross_entropy_of_the_logits() -> None:
    model, tokens = lively(MODERN), tokens_of(MODERN)
    nats, count = model(tokens[:, :-1], tokens[:, 1:])
    logits = model(tokens[:, :-1])
    torch.testing.assert_close(nats, F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="sum"))
    assert count.item() == 3 * 7


def test_masked_documents_are_read_as_if_each_were_alone() -> None:
    model = lively(replace(MODERN, document_start=5, layers=3))
    first, second = torch.tensor([[5, 1, 2]]), torch.tensor([[5, 3, 4, 6]])
    together = model(torch.cat((first, second), dim=1))
    alone = torch.cat((model(first), model(second)), dim=1)  # rotary positions see distances alone
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(lively(replace(MODERN, layers=3))(torch.cat((first, second), dim=1)), alone, atol=1e-2)


def test_softcapped_logits_stay_below_the_cap() -> None:
    plain, capped = lively(TINY)(tokens_of(TINY)), lively(replace(TINY, logit_softcap=1.0))(tokens_of(TINY))
    torch.testing.assert_close(capped, torch.tanh(plain))
    assert plain.abs().max() > 1 > capped.abs().max()


def test_zero_initialized_blocks_pass_the_embeddings_on() -> None:
    model = GPT(replace(MODERN, zero_init=True)).eval()
    tokens = tokens_of(MODERN)
    expected = F.linear(model.final_norm(model.token_embedding(tokens)), model.token_embedding.weight)
    torch.testing.assert_close(model(tokens), expected)


def test_residual_scalars_start_as_the_plain_stream() -> None:
    model, plain = GPT(replace(MODERN, residual_scalars=True)), GPT(MODERN)
    assert torch.equal(model(tokens_of(MODERN)), plain(tokens_of(MODERN)))


def test_value_embeddings_lie_in_every_second_layer_up_to_the_last() -> None:
    layers = [GPT(replace(TINY, layers=n, value_embeddings=True)).blocks for n in (3, 4)]
    assert [[block.attention.value_embedding is not None for block in blocks] for blocks in layers] == [
        [True, False, True],
        [False, True, False, True],
    ]


def test_hidden_matrices_are_all_matrices_but_the_embeddings() -> None:
    model = GPT(replace(EVERYTHING, activation="swiglu", hidden=24))
    kinds = model.hidden_matrices()
    for matrices, rows in kinds:
        assert [len(matrix) for matrix in matrices] == [sum(rows)] * 2
    named = {id(parameter): name for name, parameter in model.named_parameters() if parameter.ndim == 2}
    found = {named.pop(id(matrix)) for matrices, _ in kinds for matrix in matrices}
    assert len(found) == 8
    assert sorted(named.values()) == ["blocks.1.attention.value_embedding.weight", "token_embedding.weight"]
    assert [rows for _, rows in kinds] == [(16, 8, 8), (16,), (24, 24), (16,)]


def test_only_matrices_decay_and_every_parameter_is_in_one_group() -> None:
    model = GPT(TINY)
    decayed, kept = model.decay_groups(0.1)
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    assert {p.ndim for p in decayed["params"]} == {2} and {p.ndim for p in kept["params"]} == {1}
    assert {id(p) for p in decayed["params"] + kept["params"]} == {id(p) for p in model.parameters()}
    assert len(decayed["params"]) + len(kept["params"]) == len(list(model.parameters()))


def test_compiled_model_equals_the_plain_one() -> None:
    """As one graph, through every part that chooses other operations when compiled; no C++ compiler needed."""
    model, tokens = lively(EVERYTHING), tokens_of(EVERYTHING)
    plain = mean_loss(model, tokens)
    plain_gradients = torch.autograd.grad(plain, list(model.parameters()))
    nats, count = torch.compile(model, backend="aot_eager", fullgraph=True)(tokens[:, :-1], tokens[:, 1:])
    torch.testing.assert_close(nats / count, plain)
    torch.testing.assert_close(torch.autograd.grad(nats / count, list(model.parameters())), plain_gradients)


def test_bfloat16_follows_float32() -> None:
    model, tokens = lively(replace(MODERN, layers=1)), tokens_of(MODERN)
    expected = mean_loss(model, tokens)
    actual = mean_loss(model.bfloat16(), tokens)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected, rtol=0.03, atol=0.0)


def test_more_tokens_than_the_context_are_refused() -> None:
    model = GPT(TINY)
    with pytest.raises(ShapeError, match=r"9 tokens after 0 .* context of 8"):
        model(torch.zeros(1, 9, dtype=torch.int64))
    cache = Cache(TINY, batch=1, device=torch.device("cpu"), dtype=torch.float32)
    with torch.no_grad():
        model(torch.zeros(1, 8, dtype=torch.int64), cache=cache)
    with pytest.raises(ShapeError, match="1 tokens after 8"):
        model(torch.zeros(1, 1, dtype=torch.int64), cache=cache)
