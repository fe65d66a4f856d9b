"""Each option of a GPT by itself, and each on top of GPT-2's and of a modern model's choices."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.model import GPT, FeedForward, GPTShape

Lively = Callable[..., GPT]
TokensOf = Callable[..., Tensor]
MeanLoss = Callable[[GPT, Tensor], Tensor]
TINY = GPTShape(vocab_size=17, layers=2, width=16, heads=4, context=8)
MODERN = replace(TINY, position="rope", norm="rmsnorm", activation="relu2", qk_norm=True, bias=False)


OPTIONS = {
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


@pytest.mark.parametrize("base", [TINY, MODERN], ids=["gpt-2", "modern"])
@pytest.mark.parametrize("change", OPTIONS.values(), ids=OPTIONS)
def test_every_option_learns_a_batch(
    change: dict[str, object], base: GPTShape, tokens_of: TokensOf, mean_loss: MeanLoss
) -> None:
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


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "dropout"])
def test_every_option_changes_the_logits(name: str, lively: Lively, tokens_of: TokensOf) -> None:
    """Wherever the parameters still fit they are the same, so the difference is the option itself."""
    plain, changed = lively(TINY), lively(replace(TINY, **OPTIONS[name]))
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


def test_dropout_acts_in_training_only(lively: Lively, tokens_of: TokensOf) -> None:
    model = lively(replace(TINY, dropout=0.2))
    tokens = tokens_of(TINY)
    assert torch.equal(model(tokens), model(tokens))
    torch.testing.assert_close(model(tokens), lively(TINY)(tokens))
    model.train()
    assert not torch.equal(model(tokens), model(tokens))


def test_softcapped_logits_stay_below_the_cap(lively: Lively, tokens_of: TokensOf) -> None:
    plain, capped = lively(TINY)(tokens_of(TINY)), lively(replace(TINY, logit_softcap=1.0))(tokens_of(TINY))
    torch.testing.assert_close(capped, torch.tanh(plain))
    assert plain.abs().max() > 1 > capped.abs().max()


def test_zero_initialized_blocks_pass_the_embeddings_on(tokens_of: TokensOf) -> None:
    model = GPT(replace(MODERN, zero_init=True)).eval()
    tokens = tokens_of(MODERN)
    expected = F.linear(model.final_norm(model.token_embedding(tokens)), model.token_embedding.weight)
    torch.testing.assert_close(model(tokens), expected)


def test_residual_scalars_start_as_the_plain_stream(tokens_of: TokensOf) -> None:
    model, plain = GPT(replace(MODERN, residual_scalars=True)), GPT(MODERN)
    assert torch.equal(model(tokens_of(MODERN)), plain(tokens_of(MODERN)))
