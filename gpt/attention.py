"""Causal self-attention with all heads in one batched operation, its rotary positions and its key-value cache.

Legend: B batch, T time (queries), S time (keys), C channels, H heads, G key-value heads, D channels of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.normalization import rms_norm
from gpt.shape import GPTShape, ShapeError


class Cache:
    """Keys and values of the tokens that a model has seen, so that sampling feeds each token once.

    Use it under `no_grad` only: keys and values are written into one tensor in place, which autograd could not undo.
    `memory` is (layers, 2, B, G, context, D), where 2 is keys and values.
    """

    def __init__(self, shape: GPTShape, batch: int, *, device: torch.device, dtype: torch.dtype) -> None:
        size = (shape.layers, 2, batch, shape.key_value_heads, shape.context, shape.head_width)
        self.memory = torch.empty(size, device=device, dtype=dtype)
        # Later option document_start: which document each token belongs to, counted from 0; read only where it is set.
        self.documents = torch.zeros((batch, shape.context), device=device, dtype=torch.int64)
        self.context = shape.context
        self.length = 0  # tokens seen; the model moves it once per forward, after the last layer

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append a layer's new keys and values (B, G, T, D). Returns all so far, each (B, G, S, D)."""
        end = self.length + k.shape[2]
        keys, values = self.memory[layer]
        keys[:, :, self.length : end] = k
        values[:, :, self.length : end] = v
        return keys[:, :, :end], values[:, :, :end]


@dataclass(frozen=True)
class Shared:
    """What all layers of one forward share. A field is None unless an option of the model needs it."""

    tokens: Tensor | None = None  # (B, T) int64
    embedded: Tensor | None = None  # (B, T, C), the stream before the first layer
    rotation: Tensor | None = None  # (T, D / 2, 2), cosine and sine of the positions in this forward
    visible: Tensor | None = None  # (B, 1, T, S) bool, true where a query sees a key; None: all that are not later
    cache: Cache | None = None


NOTHING_SHARED = Shared()


def rotation_table(context: int, head_width: int, base: float = 10_000.0) -> Tensor:
    """Cosine and sine (context, D / 2, 2) float32 of each position's rotary angles (Su et al. 2021)."""
    # In float64: an angle grows to `context` radians, of which float32 would keep only four or five decimals.
    frequencies = base ** (-torch.arange(0, head_width, 2, dtype=torch.float64) / head_width)  # (D / 2)
    angles = torch.arange(context, dtype=torch.float64).outer(frequencies)  # (context, D / 2)
    return torch.stack((angles.cos(), angles.sin()), dim=-1).float()


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn each channel pair (2 i, 2 i + 1) of x (B, T, H, D) by its position's angle; rotation (T, D / 2, 2).

    The product of a turned query and key then depends on their distance alone. Pairs are neighbours as in the paper
    and Meta's Llama; Hugging Face's pairs (i, i + D / 2) need the rows of queries and keys reordered.
    """
    pairs = x.float().view(*x.shape[:-1], -1, 2)  # (B, T, H, D / 2, 2)
    turns = rotation.float().unsqueeze(1)  # (T, 1, D / 2, 2)
    if torch.compiler.is_compiling():  # fuses real products, and has no code for complex ones (torch 2.13)
        (a, b), (cos, sin) = pairs.unbind(-1), turns.unbind(-1)
        turned = torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1)
    else:  # one pass over memory instead of seven, each way
        turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(turns))
    return turned.flatten(-2).type_as(x)  # (B, T, H, D)


def past(T: int, S: int, device: torch.device) -> Tensor:
    """(T, S) bool, true where one of the last T of S positions sees a position: itself and everything before."""
    return torch.ones(T, S, dtype=torch.bool, device=device).tril(S - T)


# Later option document_start (not in the lecture): several documents in one window that do not see each other.
def same_document(tokens: Tensor, start: int, cache: Cache | None) -> Tensor:
    """(B, 1, T, S) bool: what each token of (B, T) sees of its own document, which a `start` token begins.

    With a cache the numbers of the new tokens' documents are added to it.
    """
    numbers = (tokens == start).cumsum(dim=1)  # (B, T), the document that each token lies in
    if cache is None:
        seen = numbers
    else:
        end = cache.length + tokens.shape[1]
        if cache.length > 0:
            # The count goes on from the last cached token: it restarted at 0 with this piece of the text.
            numbers = numbers + cache.documents[:, cache.length - 1 : cache.length]
        cache.documents[:, cache.length : end] = numbers
        seen = cache.documents[:, :end]  # (B, S)
    same = numbers.unsqueeze(2) == seen.unsqueeze(1)  # (B, T, S)
    return (same & past(tokens.shape[1], seen.shape[1], tokens.device)).unsqueeze(1)


def attend(q: Tensor, k: Tensor, v: Tensor, dropout: float, visible: Tensor | None = None) -> Tensor:
    """Weighted mean of the values that each query may see: q (B, H, T, D), k and v (B, G, S, D) to (B, H, T, D).

    Queries are the last T of S positions; they see what `visible` says, by default every key that is not later. Query
    head h uses key-value head h // (H / G): grouped-query attention (Ainslie et al. 2023).
    """
    T, S = q.shape[2], k.shape[2]
    # torch's own causal mask is faster, but it aligns the first query with the first key: right only where T == S.
    is_causal = visible is None and 1 < T == S
    if visible is None and T not in (1, S):
        visible = past(T, S, q.device)
    return F.scaled_dot_product_attention(
        q, k, v, visible, dropout, is_causal=is_causal, enable_gqa=q.shape[1] != k.shape[1]
    )


class Attention(nn.Module):
    """Causal self-attention of one layer (the lecture's exercise EX1: no list of heads, one projection for all).

    The rows of `qkv` are all query heads, then all key heads, then all value heads, D rows each.
    """

    def __init__(self, shape: GPTShape, layer: int) -> None:
        super().__init__()
        self.shape = shape
        self.layer = layer
        self.qkv = nn.Linear(
            shape.width, (shape.heads + 2 * shape.key_value_heads) * shape.head_width, bias=shape.biased_qkv
        )
        self.output = nn.Linear(shape.width, shape.width, bias=shape.bias)
        # Later option value_embeddings: a second embedding of the tokens, read as values.
        embeds = shape.embeds_values(layer)
        self.value_embedding = (
            nn.Embedding(shape.vocab_size, shape.key_value_heads * shape.head_width) if embeds else None
        )
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x: Tensor, shared: Shared = NOTHING_SHARED) -> Tensor:
        """What each position reads from itself and earlier ones, (B, T, C), to be added to the stream.

        x (B, T, C) is the normalized residual stream. With a cache in `shared`, the T tokens follow those it has seen,
        and this layer's keys and values are appended to it. The result has the dtype of x, or of autocast.
        """
        B, T, C = x.shape
        H, G, D = self.shape.heads, self.shape.key_value_heads, self.shape.head_width
        qk, v = self.qkv(x).split(((H + G) * D, G * D), dim=-1)  # (B, T, (H + G) D), (B, T, G D)
        # Queries and keys stay together until both are normalized and turned: one operation instead of two.
        qk = qk.view(B, T, H + G, D)  # (B, T, H + G, D)
        if self.shape.qk_norm:
            qk = rms_norm(qk)
        if shared.rotation is not None:
            qk = rotate(qk, shared.rotation)
        q, k = qk.transpose(1, 2).split((H, G), dim=1)  # (B, H, T, D), (B, G, T, D)
        # Later option value_embeddings (Zhou et al. 2024, modded-nanogpt), not in the lecture.
        if self.value_embedding is not None:
            assert shared.tokens is not None, "value embeddings are looked up by token"
            v = v + self.value_embedding(shared.tokens)  # (B, T, G D)
        v = v.view(B, T, G, D).transpose(1, 2)  # (B, G, T, D)
        if shared.cache is not None:
            k, v = shared.cache.extend(self.layer, k, v)  # (B, G, S, D)
        y = attend(q, k, v, self.dropout.p if self.training else 0.0, shared.visible)  # (B, H, T, D)
        branch: Tensor = self.dropout(self.output(y.transpose(1, 2).reshape(B, T, C)))  # (B, T, C)
        return branch


def check_room(context: int, seen: int, new: int) -> None:
    """Raise ShapeError if `new` tokens after `seen` ones exceed the context."""
    if seen + new > context:
        raise ShapeError(
            f"{new} tokens after {seen} cached ones exceed the context of {context}; feed the last {context} at most."
        )
