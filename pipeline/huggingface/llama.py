"""The names and forms of Llama in `transformers`, and of Qwen3, which is Llama with a norm on queries and keys.

Two things differ from ours. Rotary positions turn the channels (i, i + D / 2) of a head instead of the neighbours
(2 i, 2 i + 1), so the rows of queries and keys change places. And the feed-forward is always act(gate) * up; squared
ReLU is relu(x) * x, so its one matrix is written as gate and as up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gpt.model import GPT, GPTShape
from gpt.normalization import EPSILON
from pipeline.errors import ConfigError

GATES = {"swiglu": "silu", "relu2": "relu"}  # our activation -> what their gate goes through
ROTARY_BASE = 10_000.0


def obstacles(shape: GPTShape) -> Iterator[str]:
    """What neither Llama nor Qwen3 can express."""
    if shape.norm != "rmsnorm":
        yield f"with rotary positions the norm must be rmsnorm, not {shape.norm}"
    if shape.activation not in GATES:
        yield f"with rotary positions the activation must be swiglu or relu2, not {shape.activation}"
    if shape.qk_norm and shape.bias:
        yield "with qk_norm the feed-forward has no bias"


def config_of(shape: GPTShape) -> dict[str, Any]:
    """The content of config.json, but for what all architectures share."""
    own = {"use_sliding_window": False} if shape.qk_norm else {"mlp_bias": shape.bias}
    return {
        "architectures": ["Qwen3ForCausalLM" if shape.qk_norm else "LlamaForCausalLM"],
        "model_type": "qwen3" if shape.qk_norm else "llama",
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.width,
        "intermediate_size": shape.hidden_width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_value_heads,
        "head_dim": shape.head_width,
        "max_position_embeddings": shape.context,
        "hidden_act": GATES[shape.activation],
        "rms_norm_eps": EPSILON,
        "rope_parameters": {"rope_type": "default", "rope_theta": ROTARY_BASE},
        "rope_theta": ROTARY_BASE,  # where `transformers` before 5 looks
        "attention_bias": shape.biased_qkv or shape.bias,
        "attention_dropout": shape.dropout,
        **own,
    }


def weights_of(model: GPT) -> dict[str, Tensor]:
    """The model's tensors under their names. Raises ConfigError if its head has a bias other than zero."""
    found: dict[str, Tensor] = {"model.embed_tokens.weight": model.token_embedding.weight}
    for layer in range(model.shape.layers):
        theirs = _block(model.get_submodule(f"blocks.{layer}"), model.shape)
        found |= {f"model.layers.{layer}.{name}": weight for name, weight in theirs.items()}
    found["model.norm.weight"] = model.final_norm.get_parameter("weight")
    if model.head is not None:
        if model.head.bias is not None and model.head.bias.any():
            raise ConfigError(
                "Llama's head has no bias, this model's has.",
                remedy="Export a model with tie_embeddings: true or bias: false.",
            )
        found["lm_head.weight"] = model.head.weight
    return found


def _block(block: nn.Module, shape: GPTShape) -> dict[str, Tensor]:
    parts: dict[str, Tensor] = dict(block.named_parameters())
    found = {
        "input_layernorm.weight": parts["attention_norm.weight"],
        "post_attention_layernorm.weight": parts["feed_forward_norm.weight"],
    }
    if shape.qk_norm:
        found |= {f"self_attn.{name}_norm.weight": torch.ones(shape.head_width) for name in ("q", "k")}
    found |= _attention(parts, shape, "weight") | _feed_forward(parts, shape, "weight")
    if shape.biased_qkv or shape.bias:
        found |= _attention(parts, shape, "bias")
    return found | _feed_forward(parts, shape, "bias") if shape.bias else found


def _attention(parts: Mapping[str, Tensor], shape: GPTShape, kind: str) -> dict[str, Tensor]:
    """Its weights or biases. They have biases at all four places or at none, so ours may have to be zeros."""
    heads, shared = shape.heads, shape.key_value_heads
    sizes = [num * shape.head_width for num in (heads, shared, shared)]
    qkv = parts.get(f"attention.qkv.{kind}", torch.zeros(sum(sizes)))
    q, k, v = torch.split(qkv, sizes)
    rows = {"q": neighbours_apart(q, heads), "k": neighbours_apart(k, shared), "v": v}
    rows["o"] = parts.get(f"attention.output.{kind}", torch.zeros(shape.width))
    return {f"self_attn.{name}_proj.{kind}": tensor for name, tensor in rows.items()}


def _feed_forward(parts: Mapping[str, Tensor], shape: GPTShape, kind: str) -> dict[str, Tensor]:
    up, down = parts[f"feed_forward.up.{kind}"], parts[f"feed_forward.down.{kind}"]
    gate, value = up.chunk(2) if shape.activation == "swiglu" else (up, up)
    return {f"mlp.gate_proj.{kind}": gate, f"mlp.up_proj.{kind}": value, f"mlp.down_proj.{kind}": down}


def neighbours_apart(rows: Tensor, heads: int) -> Tensor:
    """Rows (heads * D, ...) with each head's 0 1 2 3 4 5 in the order 0 2 4 1 3 5."""
    pairs = rows.reshape(heads, -1, 2, *rows.shape[1:])
    return pairs.transpose(1, 2).reshape(rows.shape)
