"""The GPT of the lecture "Let's build GPT", with the parts that later models use as options.

    model = GPT(GPTShape(vocab_size=65, layers=6, width=384, heads=6, context=256))
    logits = model(tokens)                       # (B, T, V)
    nats, count = model(tokens, targets)         # sum over the counted positions; (nats / count).backward()

Legend: B batch, T time, C channels, V vocabulary. The model knows nothing of devices, ranks, files or configs.
"""

from __future__ import annotations

import math
from typing import Any, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gpt.attention import Attention, Cache, Shared, check_room, rotation_table, same_document
from gpt.loss import IGNORED, LossSum, next_token_loss
from gpt.normalization import RMSNorm
from gpt.shape import GPTShape, ShapeError

__all__ = ["GPT", "GPTShape", "ShapeError", "Cache", "IGNORED", "LossSum", "next_token_loss"]


def norm(shape: GPTShape) -> nn.Module:
    """A normalization of the last dimension, (..., C) to (..., C), of the kind that the shape asks for."""
    if shape.norm == "rmsnorm":
        return RMSNorm(shape.width)
    return nn.LayerNorm(shape.width, bias=shape.bias)


class FeedForward(nn.Module):
    """Two linear layers around the activation, for each position alone.

    For swiglu the rows of `up` are the gate's, then the value's.
    """

    def __init__(self, shape: GPTShape) -> None:
        super().__init__()
        self.activation = shape.activation
        gates = 2 if shape.activation == "swiglu" else 1
        self.up = nn.Linear(shape.width, gates * shape.hidden_width, bias=shape.bias)
        self.down = nn.Linear(shape.hidden_width, shape.width, bias=shape.bias)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) to (B, T, C), to be added to the stream; in between (B, T, hidden), for swiglu twice that."""
        branch: Tensor = self.dropout(self.down(self._activate(self.up(x))))
        return branch

    def _activate(self, x: Tensor) -> Tensor:
        match self.activation:
            case "relu":
                return F.relu(x)
            case "gelu":
                return F.gelu(x, approximate="tanh")  # the approximation that GPT-2 was trained with
            case "relu2":
                return F.relu(x).square()  # So et al. 2021
            case "swiglu":
                gate, value = x.chunk(2, dim=-1)  # (B, T, hidden) each
                return F.silu(gate) * value  # Shazeer 2020


class Block(nn.Module):
    """Communication, then computation, each on a normalized copy of the residual stream."""

    def __init__(self, shape: GPTShape, layer: int) -> None:
        super().__init__()
        self.attention_norm = norm(shape)
        self.attention = Attention(shape, layer)
        self.feed_forward_norm = norm(shape)
        self.feed_forward = FeedForward(shape)
        # Later option residual_scalars: weights of the stream and of the embeddings.
        self.mix = nn.Parameter(torch.tensor([1.0, 0.0])) if shape.residual_scalars else None

    def forward(self, x: Tensor, shared: Shared) -> Tensor:
        """The residual stream after this block, (B, T, C) to (B, T, C)."""
        # Later option residual_scalars (modded-nanogpt, nanochat), not in the lecture.
        if self.mix is not None:
            assert shared.embedded is not None, "residual scalars mix the embeddings in"
            x = self.mix[0] * x + self.mix[1] * shared.embedded
        x = x + self.attention(self.attention_norm(x), shared)
        x = x + self.feed_forward(self.feed_forward_norm(x))
        return x  # noqa: RET504 - the two halves read alike


class GPT(nn.Module):
    """A decoder-only transformer; its weights are those of `initialize(0)` until they are loaded or drawn again.

    Set `checkpoint_activations` to keep only each block's input for the backward: less memory, a third more work.
    """

    def __init__(self, shape: GPTShape) -> None:
        super().__init__()
        self.shape = shape
        self.checkpoint_activations = False
        self.token_embedding = nn.Embedding(shape.vocab_size, shape.width)
        self.position_embedding = nn.Embedding(shape.context, shape.width) if shape.position == "learned" else None
        rotation = rotation_table(shape.context, shape.head_width) if shape.position == "rope" else None
        self.rotation: Tensor | None
        self.register_buffer("rotation", rotation, persistent=False)
        self.dropout = nn.Dropout(shape.dropout)
        self.blocks = nn.ModuleList(Block(shape, layer) for layer in range(shape.layers))
        self.final_norm = norm(shape)
        self.head = None if shape.tie_embeddings else nn.Linear(shape.width, shape.vocab_size, bias=shape.bias)
        self.initialize(0)

    @overload
    def forward(self, tokens: Tensor, targets: None = None, cache: Cache | None = None) -> Tensor: ...
    @overload
    def forward(self, tokens: Tensor, targets: Tensor, cache: Cache | None = None) -> LossSum: ...

    def forward(self, tokens: Tensor, targets: Tensor | None = None, cache: Cache | None = None) -> Tensor | LossSum:
        """Logits (B, T, V) of each next token, or the loss where `targets` (B, T) int64 are given.

        tokens (B, T) int64. With a cache the tokens follow those it has seen, and are added to it. Logits have the
        dtype of the weights, or of autocast; the loss is summed in float32, in nats.

        Raises ShapeError if the tokens exceed the context.
        """
        x = self._features(tokens, cache)  # (B, T, C)
        # One product for a tied and an untied head: a tied head is the token embedding (V, C), read the other way.
        weight, bias = (self.token_embedding.weight, None) if self.head is None else (self.head.weight, self.head.bias)
        logits = F.linear(x, weight, bias)  # (B, T, V)
        # Later option logit_softcap (Gemma 2), not in the lecture.
        if self.shape.logit_softcap is not None:
            logits = self.shape.logit_softcap * torch.tanh(logits / self.shape.logit_softcap)
        return logits if targets is None else next_token_loss(logits, targets)

    def _features(self, tokens: Tensor, cache: Cache | None) -> Tensor:
        """The normalized residual stream after the last block, (B, T, C), from tokens (B, T) int64."""
        start = 0 if cache is None else cache.length
        end = start + tokens.shape[1]
        check_room(self.shape.context, start, tokens.shape[1])
        x = self.token_embedding(tokens)  # (B, T, C)
        if self.position_embedding is not None:
            x = x + self.position_embedding.weight[start:end]  # (T, C), the same for the whole batch
        x = self.dropout(x)
        mark = self.shape.document_start  # later option, not in the lecture
        shared = Shared(
            tokens,
            embedded=x,
            rotation=None if self.rotation is None else self.rotation[start:end],
            visible=None if mark is None else same_document(tokens, mark, cache),
            cache=cache,
        )
        for block in self.blocks:  # each (B, T, C) to (B, T, C)
            # Without gradients nothing is kept for a backward, so there is no memory to save.
            if self.checkpoint_activations and torch.is_grad_enabled():
                x = checkpoint(block, x, shared, use_reentrant=False)
            else:
                x = block(x, shared)
        if cache is not None:
            cache.length = end  # only now: every layer appended at the old length
        features: Tensor = self.final_norm(x)
        return features

    @torch.no_grad()
    def initialize(self, seed: int) -> GPT:
        """Draw the weights anew, in place, from the shape and the seed alone; returns this model.

        Matrices are normal with deviation 0.02. Those that write to the residual stream are smaller by the square root
        of their number, so that its size does not grow with depth (GPT-2), or zero. Norms start as 1, biases as 0.
        """
        # On the CPU whatever the model's device: generators of a GPU draw other numbers from the same seed.
        generator = torch.Generator().manual_seed(seed)
        # Later option zero_init (not in the lecture): what writes to the residual stream starts at zero.
        residual_deviation = 0.0 if self.shape.zero_init else 0.02 / math.sqrt(2 * self.shape.layers)
        for name, parameter in self.named_parameters():
            if name.endswith("mix"):
                parameter.copy_(torch.tensor([1.0, 0.0]))  # the plain residual stream
            elif parameter.ndim == 1:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
            else:
                writes = name.endswith(("attention.output.weight", "feed_forward.down.weight"))
                deviation = residual_deviation if writes else 0.02
                # Drawn also where the deviation is 0, so that all later matrices are the same with and without it.
                parameter.copy_(torch.empty(parameter.shape).normal_(0.0, deviation, generator=generator))
        return self

    def hidden_matrices(self) -> list[tuple[list[Tensor], tuple[int, ...]]]:
        """The matrices between the embeddings and the head, one entry per role, layers in order.

        Beside each role stands how its rows divide into matrices that work apart: queries, keys and values, or gate and
        value. An optimizer such as Muon treats each of those as a matrix by itself.
        """
        blocks = [block for block in self.blocks if isinstance(block, Block)]
        D, H, G = self.shape.head_width, self.shape.heads, self.shape.key_value_heads
        gates = 2 if self.shape.activation == "swiglu" else 1
        return [
            ([block.attention.qkv.weight for block in blocks], (H * D, G * D, G * D)),
            ([block.attention.output.weight for block in blocks], (self.shape.width,)),
            ([block.feed_forward.up.weight for block in blocks], (self.shape.hidden_width,) * gates),
            ([block.feed_forward.down.weight for block in blocks], (self.shape.width,)),
        ]

    def decay_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Optimizer groups for torch.optim: matrices and embeddings are decayed, norms and biases are not."""
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
