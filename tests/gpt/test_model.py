from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.model import GPT, GPTShape

Lively = Callable[..., GPT]
TokensOf = Callable[..., Tensor]
MeanLoss = Callable[[GPT, Tensor], Tensor]
TINY = GPTShape(vocab_size=17, layers=2, width=16, heads=4, context=8)
MODERN = replace(TINY, position="rope", norm="rmsnorm", activation="relu2", qk_norm=True, bias=False)
EVERYTHING = replace(
    MODERN, kv_heads=2, residual_scalars=True, value_embeddings=True, logit_softcap=3.0, document_start=5
)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_checkpointed_activations_give_the_same_gradients(
    dropout: float, tokens_of: TokensOf, mean_loss: MeanLoss
) -> None:
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
def test_loss_at_the_start_is_that_of_a_uniform_guess(
    shape: GPTShape, tokens_of: TokensOf, mean_loss: MeanLoss
) -> None:
    shape = replace(shape, vocab_size=1000, width=64, context=64)
    tokens = tokens_of(shape, batch=8)
    assert mean_loss(GPT(shape).eval(), tokens).item() == pytest.approx(torch.tensor(1000.0).log().item(), abs=0.1)


def test_loss_equals_cross_entropy_of_the_logits(lively: Lively, tokens_of: TokensOf) -> None:
    model, tokens = lively(MODERN), tokens_of(MODERN)
    nats, count = model(tokens[:, :-1], tokens[:, 1:])
    logits = model(tokens[:, :-1])
    torch.testing.assert_close(nats, F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="sum"))
    assert count.item() == 3 * 7


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


def test_compiled_model_equals_the_plain_one(lively: Lively, tokens_of: TokensOf, mean_loss: MeanLoss) -> None:
    """As one graph, through every part that chooses other operations when compiled; no C++ compiler needed."""
    model, tokens = lively(EVERYTHING), tokens_of(EVERYTHING)
    plain = mean_loss(model, tokens)
    plain_gradients = torch.autograd.grad(plain, list(model.parameters()))
    nats, count = torch.compile(model, backend="aot_eager", fullgraph=True)(tokens[:, :-1], tokens[:, 1:])
    torch.testing.assert_close(nats / count, plain)
    torch.testing.assert_close(torch.autograd.grad(nats / count, list(model.parameters())), plain_gradients)


def test_bfloat16_follows_float32(lively: Lively, tokens_of: TokensOf, mean_loss: MeanLoss) -> None:
    model, tokens = lively(replace(MODERN, layers=1)), tokens_of(MODERN)
    expected = mean_loss(model, tokens)
    actual = mean_loss(model.bfloat16(), tokens)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected, rtol=0.03, atol=0.0)
