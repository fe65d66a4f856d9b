"""Llama in `transformers`, and Qwen3, which is Llama with a norm on queries and keys: config and tensors of a GPT.

Two things differ from a GPT here. Rotary positions turn the channels (i, i + D / 2) of a head instead of the neighbours
(2 i, 2 i + 1), so the rows of queries and keys are reordered. And the feed-forward is always act(gate) * up; squared
ReLU is relu(x) * x, so its one matrix is written twice, as gate and as up. D is the number of channels of a head.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gpt.model import GPT, GPTShape
from gpt.normalization import EPSILON
from pipeline.errors import ConfigError

GATES = {"swiglu": "silu", "relu2": "relu"}  # our activation -> what is applied to their gate
ROTARY_BASE = 10_000.0  # the default of gpt.attention.rotation_table


def obstacles(shape: GPTShape) -> Iterator[str]:
    """What of this shape neither Llama nor Qwen3 can express, one reason each."""
    if shape.norm != "rmsnorm":
        yield f"with rotary positions the norm must be rmsnorm, not {shape.norm}"
    if shape.activation not in GATES:
        yield f"with rotary positions the activation must be swiglu or relu2, not {shape.activation}"
    if shape.qk_norm and shape.bias:
        yield "with qk_norm the feed-forward has no bias"  # Qwen3 has no `mlp_bias`


def config_of(shape: GPTShape) -> dict[str, Any]:
    """The content of config.json, without the keys that all architectures share."""
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


def state_dict_of(model: GPT) -> dict[str, Tensor]:
    """The model's tensors under Llama's names. Raises ConfigError if its head has a bias other than zero."""
    state_dict: dict[str, Tensor] = {"model.embed_tokens.weight": model.token_embedding.weight}
    for layer in range(model.shape.layers):
        theirs = _block(model.get_submodule(f"blocks.{layer}"), model.shape)
        state_dict |= {f"model.layers.{layer}.{name}": weight for name, weight in theirs.items()}
    state_dict["model.norm.weight"] = model.final_norm.get_parameter("weight")
    if model.head is not None:
        # An RMS norm has no bias, so unlike GPT-2's last norm it cannot take the head's.
        if model.head.bias is not None and model.head.bias.any():
            raise ConfigError(
                "Llama's head has no bias, but this model's head has one.",
                remedy="Export a model with tie_embeddings: true or bias: false.",
            )
        state_dict["lm_head.weight"] = model.head.weight
    return state_dict


def _block(block: nn.Module, shape: GPTShape) -> dict[str, Tensor]:
    ours: dict[str, Tensor] = dict(block.named_parameters())
    theirs = {
        "input_layernorm.weight": ours["attention_norm.weight"],
        "post_attention_layernorm.weight": ours["feed_forward_norm.weight"],
    }
    if shape.qk_norm:
        # Our norm of queries and keys has no weights; Qwen3's are 1 then.
        theirs |= {f"self_attn.{name}_norm.weight": torch.ones(shape.head_width) for name in ("q", "k")}
    theirs |= _attention(ours, shape, "weight") | _feed_forward(ours, shape, "weight")
    if shape.biased_qkv or shape.bias:
        theirs |= _attention(ours, shape, "bias")
    return theirs | _feed_forward(ours, shape, "bias") if shape.bias else theirs


def _attention(ours: Mapping[str, Tensor], shape: GPTShape, parameter: str) -> dict[str, Tensor]:
    """The attention's weights or biases, as `parameter` says."""
    heads, shared = shape.heads, shape.key_value_heads
    sizes = [num * shape.head_width for num in (heads, shared, shared)]
    # Llama has biases in all four projections or in none (`attention_bias`), so one that we lack is written as zeros.
    qkv = ours.get(f"attention.qkv.{parameter}", torch.zeros(sum(sizes)))
    q, k, v = torch.split(qkv, sizes)
    # Values are not turned by their position, so their rows stay in order, and with them the output's columns.
    rows = {"q": pairs_to_halves(q, heads), "k": pairs_to_halves(k, shared), "v": v}
    rows["o"] = ours.get(f"attention.output.{parameter}", torch.zeros(shape.width))
    return {f"self_attn.{name}_proj.{parameter}": tensor for name, tensor in rows.items()}


def _feed_forward(ours: Mapping[str, Tensor], shape: GPTShape, parameter: str) -> dict[str, Tensor]:
    up, down = ours[f"feed_forward.up.{parameter}"], ours[f"feed_forward.down.{parameter}"]
    gate, value = up.chunk(2) if shape.activation == "swiglu" else (up, up)
    return {f"mlp.gate_proj.{parameter}": gate, f"mlp.up_proj.{parameter}": value, f"mlp.down_proj.{parameter}": down}


def pairs_to_halves(rows: Tensor, heads: int) -> Tensor:
    """Rows (heads * D, ...) with those of each head reordered: 0 1 2 3 4 5 becomes 0 2 4 1 3 5."""
    pairs = rows.reshape(heads, -1, 2, *rows.shape[1:])  # (heads, D / 2, 2, ...)
    return pairs.transpose(1, 2).reshape(rows.shape)
