"""The lecture "Let's build GPT: from scratch, in code, spelled out", rung by rung: read it beside the video.

    rung            what is new                                             parameters with 65 characters
    bigram          a table: this character's row, the next one's logits     4,225
    one-head        embeddings, positions, one head of self-attention        7,553
    multi-head      four heads, each a quarter as wide, side by side         7,553
    feed-forward    each position thinks about what its heads gathered       8,609
    residual        three blocks that add to their input                    41,921
    layernorm       each branch reads a normalized copy of its input        42,369
    scaled-up       the real model, gpt/model.py, with dropout          10,788,929

    model = RUNGS["one-head"](Sizes(vocab_size=65, context=8, width=32, heads=4, layers=3))
    fit(model, text, context=8, batch=32, steps=5000, learning_rate=1e-3, generator=torch.Generator())
    logits = model(tokens)                       # (B, T, V), T at most the context

Written to be read, on a CPU. Where gpt/model.py does it otherwise: all heads share one projection and one fused kernel
(`batched` below is the bridge, exercise EX1), its matrices start at deviation 0.02 instead of torch's defaults, the
loss is a sum and a count, sampling keeps a cache, and dropout is there.

Legend: B batch, T time, C channels, D channels of a head, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.attention import Attention
from gpt.shape import GPTShape


@dataclass(frozen=True)
class Sizes:
    """What the rungs are built from; a rung takes what it needs of it."""

    vocab_size: int
    context: int
    width: int
    heads: int
    layers: int


# Three ways of averaging the past: the mathematical trick in self-attention.


def average_by_loop(x: Tensor) -> Tensor:
    """The mean of each position and all before it, x (B, T, C) to (B, T, C), as one says it."""
    means = torch.empty_like(x)
    for b in range(x.shape[0]):
        for t in range(x.shape[1]):
            means[b, t] = x[b, : t + 1].mean(dim=0)
    return means


def average_by_matrix(x: Tensor) -> Tensor:
    """The same by one matrix product: row t weighs positions 0 to t with 1 / (t + 1), and later ones with 0."""
    weights = torch.ones(x.shape[1], x.shape[1], dtype=x.dtype).tril()
    weights = weights / weights.sum(dim=1, keepdim=True)  # (T, T)
    return weights @ x  # (T, T) @ (B, T, C): the same weights for the whole batch


def average_by_softmax(x: Tensor) -> Tensor:
    """The same with weights that softmax makes of equal scores. Attention is this with scores that depend on x."""
    scores = torch.zeros(x.shape[1], x.shape[1], dtype=x.dtype)
    return past_weights(scores) @ x


def past_weights(scores: Tensor) -> Tensor:
    """Scores (..., T, T) as weights that sum to 1 in each row and are 0 for the future, whose scores count as -inf."""
    T = scores.shape[-1]
    future = torch.ones(T, T, dtype=torch.bool, device=scores.device).triu(1)
    return scores.masked_fill(future, float("-inf")).softmax(dim=-1)


# What the rungs are made of.


class Head(nn.Module):
    """One head of self-attention: each position averages the values of its past, most where its query meets the key."""

    def __init__(self, width: int, head_width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, head_width, bias=False)
        self.key = nn.Linear(width, head_width, bias=False)
        self.value = nn.Linear(width, head_width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.query(x), self.key(x), self.value(x)  # each (B, T, D)
        # Products of D terms have variance D. Divided by its root, softmax starts soft and not one-hot. (The lecture
        # says the head's width, its script took the whole width; `gpt.attention` divides by the head's too.)
        scores = q @ k.transpose(-2, -1) * k.shape[-1] ** -0.5  # (B, T, T)
        mean: Tensor = past_weights(scores) @ v  # (B, T, D)
        return mean


class MultiHead(nn.Module):
    """Several heads side by side, as a list; `output` mixes what they found, where there is one."""

    def __init__(self, sizes: Sizes, *, mixes: bool) -> None:
        super().__init__()
        self.heads = nn.ModuleList(Head(sizes.width, sizes.width // sizes.heads) for _ in range(sizes.heads))
        self.output = nn.Linear(sizes.width, sizes.width) if mixes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.output(torch.cat([head(x) for head in self.heads], dim=-1))  # (B, T, C)
        return mixed


class FeedForward(nn.Sequential):
    """A hidden layer four times as wide, for each position by itself."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))


class Block(nn.Module):
    """Communication, then computation. What they find is added to x, so gradients reach the first layer undimmed."""

    def __init__(self, sizes: Sizes, *, normalizes: bool) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(sizes.width) if normalizes else nn.Identity()
        self.attention = MultiHead(sizes, mixes=True)
        self.feed_forward_norm = nn.LayerNorm(sizes.width) if normalizes else nn.Identity()
        self.feed_forward = FeedForward(sizes.width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        x = x + self.feed_forward(self.feed_forward_norm(x))
        return x  # noqa: RET504 - the two halves read alike


class CharacterModel(nn.Module):
    """Which character, plus where it stands; then the rung's `body`, (B, T, C) to (B, T, C); then logits."""

    def __init__(self, sizes: Sizes, body: nn.Module) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(sizes.vocab_size, sizes.width)
        self.position_embedding = nn.Embedding(sizes.context, sizes.width)
        self.body = body
        self.head = nn.Linear(sizes.width, sizes.vocab_size)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token_embedding(tokens) + self.position_embedding.weight[: tokens.shape[1]]  # (B, T, C) + (T, C)
        logits: Tensor = self.head(self.body(x))  # (B, T, V)
        return logits


# The rungs. Each gives a module that takes tokens (B, T) to the logits (B, T, V) of the next one.


def bigram(sizes: Sizes) -> nn.Module:
    return nn.Embedding(sizes.vocab_size, sizes.vocab_size)


def one_head(sizes: Sizes) -> nn.Module:
    return CharacterModel(sizes, Head(sizes.width, sizes.width))


def multi_head(sizes: Sizes) -> nn.Module:
    return CharacterModel(sizes, MultiHead(sizes, mixes=False))


def feed_forward(sizes: Sizes) -> nn.Module:
    thinking = nn.Sequential(nn.Linear(sizes.width, sizes.width), nn.ReLU())  # not yet four times as wide
    return CharacterModel(sizes, nn.Sequential(MultiHead(sizes, mixes=False), thinking))


def residual(sizes: Sizes) -> nn.Module:
    blocks = [Block(sizes, normalizes=False) for _ in range(sizes.layers)]
    return CharacterModel(sizes, nn.Sequential(*blocks))


def layernorm(sizes: Sizes) -> nn.Module:
    blocks = [Block(sizes, normalizes=True) for _ in range(sizes.layers)]
    return CharacterModel(sizes, nn.Sequential(*blocks, nn.LayerNorm(sizes.width)))


RUNGS: dict[str, Callable[[Sizes], nn.Module]] = {
    "bigram": bigram,
    "one-head": one_head,
    "multi-head": multi_head,
    "feed-forward": feed_forward,
    "residual": residual,
    "layernorm": layernorm,
}


# Training and sampling, the same for every rung.


def draw_batch(text: Tensor, batch: int, context: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random windows of a text (N,), and the same one character later: tokens and targets, both (batch, context)."""
    starts = torch.randint(len(text) - context, (batch, 1), generator=generator)
    windows = text[starts + torch.arange(context + 1)]
    return windows[:, :-1], windows[:, 1:]


def mean_loss(model: nn.Module, tokens: Tensor, targets: Tensor) -> Tensor:
    """Nats per character: how surprised the model is by the targets, on average. Knowing nothing costs ln V."""
    logits = model(tokens)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def fit(
    model: nn.Module,
    text: Tensor,
    *,
    context: int,
    batch: int,
    steps: int,
    learning_rate: float,
    generator: torch.Generator,
) -> None:
    """Train the model on random windows of a text (N,) int64."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01, fused=True)
    for _ in range(steps):
        loss = mean_loss(model, *draw_batch(text, batch, context, generator))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@torch.no_grad()
def generate(model: nn.Module, tokens: Tensor, num_tokens: int, context: int, generator: torch.Generator) -> Tensor:
    """The prompt `tokens` (B, T), T >= 1, continued by `num_tokens`. `gpt.sampling` feeds each token only once."""
    for _ in range(num_tokens):
        logits = model(tokens[:, -context:])[:, -1]  # (B, V)
        following = torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)  # (B, 1)
        tokens = torch.cat((tokens, following), dim=1)
    return tokens


# Exercise EX1: the heads as one more dimension of the batch, instead of a list.


@torch.no_grad()
def batched(heads: MultiHead) -> Attention:
    """The real model's attention with the weights of a list of heads: equal outputs, equal gradients, one product.

    Its `qkv` holds the rows of all queries, then all keys, then all values, head after head.
    """
    assert isinstance(heads.output, nn.Linear), "the real model always mixes its heads"
    shape = GPTShape(
        vocab_size=1, layers=1, width=heads.output.in_features, heads=len(heads.heads), context=1, qkv_bias=False
    )
    attention = Attention(shape, layer=0).to(heads.output.weight.dtype)
    attention.qkv.weight.copy_(stacked(heads, lambda linear: linear.weight))
    attention.output.load_state_dict(heads.output.state_dict())
    return attention


def stacked(heads: MultiHead, part: Callable[[nn.Linear], Tensor | None]) -> Tensor:
    """A part of every head's projections, such as the weight or its gradient, in the order of `Attention.qkv`."""
    projections = [getattr(head, name) for name in ("query", "key", "value") for head in heads.heads]
    return torch.cat([found for linear in projections if (found := part(linear)) is not None])
