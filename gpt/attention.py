"""Causal self-attention with all heads in one batched operation, its rotary positions and its key-value cache.

Legend: B batch, T time (queries), S time (keys), C channels, H heads, G key-value heads, D channels of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.normalization import rms_norm
from gpt.shape import GPTShape, ShapeError


class Cache:
    """Keys and values of the tokens that a model has seen, so that sampling feeds each once; under `no_grad` only."""

    def __init__(self, shape: GPTShape, batch: int, *, device: torch.device, dtype: torch.dtype) -> None:
        size = (shape.layers, 2, batch, shape.key_value_heads, shape.context, shape.head_width)
        self.memory = torch.empty(size, device=device, dtype=dtype)
        self.context = shape.context
        self.length = 0  # tokens seen; the model moves it once per forward, after the last layer

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append a layer's new keys and values (B, G, T, D); all of them so far, each (B, G, S, D)."""
        end = self.length + k.shape[2]
        keys, values = self.memory[layer]
        keys[:, :, self.length : end] = k
        values[:, :, self.length : end] = v
        return keys[:, :, :end], values[:, :, :end]


def rotation_table(context: int, head_width: int, base: float = 10_000.0) -> Tensor:
    """Cosine and sine (context, D / 2, 2) of each position's rotary angles (Su et al. 2021)."""
    frequencies = base ** (-torch.arange(0, head_width, 2, dtype=torch.float64) / head_width)
    angles = torch.arange(context, dtype=torch.float64).outer(frequencies)
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
    return turned.flatten(-2).type_as(x)


def attend(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
    """Weighted mean of the values that each query may see: q (B, H, T, D), k and v (B, G, S, D) to (B, H, T, D).

    Queries are the last T of S positions, and none sees a later key. Query head h uses key-value head h // (H / G).
    """
    T, S = q.shape[2], k.shape[2]
    past = None if T in (1, S) else torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T)
    return F.scaled_dot_product_attention(
        q, k, v, past, dropout, is_causal=1 < T == S, enable_gqa=q.shape[1] != k.shape[1]
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
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x: Tensor, rotation: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        B, T, C = x.shape
        H, G, D = self.shape.heads, self.shape.key_value_heads, self.shape.head_width
        qk, v = self.qkv(x).split(((H + G) * D, G * D), dim=-1)
        qk = qk.view(B, T, H + G, D)
        if self.shape.qk_norm:
            qk = rms_norm(qk)
        if rotation is not None:
            qk = rotate(qk, rotation)
        q, k = qk.transpose(1, 2).split((H, G), dim=1)  # (B, H, T, D), (B, G, T, D)
        v = v.view(B, T, G, D).transpose(1, 2)  # (B, G, T, D)
        if cache is not None:
            k, v = cache.extend(self.layer, k, v)  # (B, G, S, D)
        y = attend(q, k, v, self.dropout.p if self.training else 0.0)
        branch: Tensor = self.dropout(self.output(y.transpose(1, 2).reshape(B, T, C)))
        return branch


def check_room(context: int, seen: int, new: int) -> None:
    """Raise ShapeError if `new` tokens after `seen` ones exceed the context."""
    if seen + new > context:
        raise ShapeError(
            f"{new} tokens after {seen} cached ones exceed the context of {context}; feed the last {context} at most."
        )
