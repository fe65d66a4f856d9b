"""The shape of a GPT: its sizes, and the choices between the lecture's parts and later ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


class ShapeError(ValueError):
    """Sizes that do not fit together, or tokens that do not fit the context; the message names both."""


@dataclass(frozen=True)
class GPTShape:
    """Everything that decides which parameters a GPT has and how it computes.

    The lecture's model: position="learned", norm="layernorm", activation="relu", bias=True, qkv_bias=False,
    tie_embeddings=False, dropout=0.2. GPT-2: the same with activation="gelu", qkv_bias=None, tie_embeddings=True.

    Raises ShapeError if the sizes do not fit together.
    """

    vocab_size: int
    layers: int
    width: int
    heads: int
    context: int  # most tokens that one forward sees
    kv_heads: int | None = None  # key-value heads, each shared by heads / kv_heads query heads; default: `heads`
    hidden: int | None = None  # width inside the feed-forward; default 4 x width, for swiglu 8/3 x width
    position: Literal["learned", "rope"] = "learned"
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    activation: Literal["relu", "gelu", "relu2", "swiglu"] = "gelu"
    qk_norm: bool = False  # RMS norm of each head's query and key, without weights: bounds the attention scores
    bias: bool = True  # in linear layers, layer norms and an untied head
    # Default: as `bias`. The lecture has none here. Only the query's could change what the model can express: softmax
    # cancels the key's, and the output's bias can hold the value's.
    qkv_bias: bool | None = None
    tie_embeddings: bool = True  # the head reuses the token embedding
    # Later options, which the lecture does not have; each is off by default.
    zero_init: bool = False  # what writes to the residual stream starts at zero, so that every block starts as identity
    residual_scalars: bool = False  # each block learns how much of the stream and of the embeddings it reads
    value_embeddings: bool = False  # every second layer adds a second embedding of its tokens to their values
    logit_softcap: float | None = None  # bounds the logits smoothly: cap * tanh(logits / cap)
    document_start: int | None = None  # a token that begins a document; no token sees what lies before its own document
    # The lecture has this one.
    dropout: float = 0.0  # of embeddings, attention weights and residual branches, as in GPT-2

    def __post_init__(self) -> None:
        for name in ("vocab_size", "layers", "width", "heads", "context", "key_value_heads", "hidden_width"):
            if getattr(self, name) < 1:
                raise ShapeError(f"{name} is {getattr(self, name)}, but must be at least 1.")
        _divides("heads", self.heads, "width", self.width)
        _divides("kv_heads", self.key_value_heads, "heads", self.heads)
        if self.position == "rope" and self.head_width % 2:
            raise ShapeError(
                f"rope turns pairs of channels, but width {self.width} / heads {self.heads} "
                f"= {self.head_width} channels a head is odd."
            )
        if self.logit_softcap is not None and self.logit_softcap <= 0:
            raise ShapeError(f"logit_softcap is {self.logit_softcap}, but must be above 0.")
        if not 0.0 <= self.dropout < 1.0:
            raise ShapeError(f"dropout is {self.dropout}, but must be at least 0 and below 1.")

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def key_value_heads(self) -> int:
        return self.heads if self.kv_heads is None else self.kv_heads

    @property
    def hidden_width(self) -> int:
        if self.hidden is not None:
            return self.hidden
        # swiglu has three matrices instead of two, so 8/3 keeps the parameters of 4 (Shazeer 2020).
        return 8 * max(1, round(self.width / 3)) if self.activation == "swiglu" else 4 * self.width

    def embeds_values(self, layer: int) -> bool:
        """Whether a layer has a value embedding: every second one, the last included."""
        return self.value_embeddings and (self.layers - 1 - layer) % 2 == 0

    @property
    def biased_qkv(self) -> bool:
        """Whether queries, keys and values have biases."""
        return self.bias if self.qkv_bias is None else self.qkv_bias


def _divides(part: str, num_parts: int, whole: str, size: int) -> None:
    if size % num_parts:
        raise ShapeError(f"{whole} {size} cannot be divided into {part} {num_parts}.")
