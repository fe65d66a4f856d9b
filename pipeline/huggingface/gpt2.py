"""GPT-2 in `transformers`: its config and its tensors from a GPT, and a GPT from them.

Its matrices are transposed (`Conv1D`), and everything but the head has a bias. A GPT without biases is written with
zeros; the bias of a head moves into the last norm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gpt.model import GPT, GPTShape
from pipeline.errors import ConfigError

EPSILON = 1e-5  # of torch's layer norm
ACTIVATIONS = {"relu": "relu", "gelu": "gelu_new", "relu2": "relu2"}  # ours -> theirs
# `gelu_new` and `gelu_pytorch_tanh` are two names for the same tanh approximation; plain `gelu` is the exact one.
READ_ACTIVATIONS = {theirs: ours for ours, theirs in ACTIVATIONS.items()} | {"gelu_pytorch_tanh": "gelu"}
# Keys of a config that ask for arithmetic which a GPT does not do, each with the value that a GPT computes.
REQUIRED_VALUES = {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False}
MASKS = (".attn.bias", ".attn.masked_bias")  # constants, not weights, that old files hold
LARGEST_RESIDUE = 1e-5  # in logits: what may be left of a head's bias that does not fit into the last norm


def obstacles(shape: GPTShape) -> Iterator[str]:
    """What of this shape GPT-2 cannot express, one reason each."""
    if shape.norm != "layernorm":
        yield f"with learned positions the norm must be layernorm, not {shape.norm}"
    if shape.activation not in ACTIVATIONS:
        yield f"with learned positions the activation cannot be {shape.activation}"
    if shape.qk_norm:
        yield "with learned positions there is no qk_norm"
    if shape.key_value_heads != shape.heads:
        yield f"with learned positions {shape.heads} heads cannot share {shape.key_value_heads} kv_heads"


def config_of(shape: GPTShape) -> dict[str, Any]:
    """The content of config.json, without the keys that all architectures share."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": shape.vocab_size,
        "n_positions": shape.context,
        "n_embd": shape.width,
        "n_layer": shape.layers,
        "n_head": shape.heads,
        "n_inner": shape.hidden_width,
        "activation_function": ACTIVATIONS[shape.activation],
        "layer_norm_epsilon": EPSILON,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), shape.dropout),
    }


def state_dict_of(model: GPT) -> dict[str, Tensor]:
    """The model's tensors under GPT-2's names. Raises ConfigError if the last norm cannot take the head's bias."""
    state_dict: dict[str, Tensor] = {}
    for ours, theirs, transposed in _modules(model.shape):
        module = model.get_submodule(ours)
        weight = module.get_parameter("weight")
        state_dict[f"{theirs}.weight"] = weight.T if transposed else weight
        if not isinstance(module, nn.Embedding) and ours != "head":
            # A norm's weight (C), or a transposed matrix (in, out): the last dimension is that of the bias.
            width = state_dict[f"{theirs}.weight"].shape[-1]
            bias = getattr(module, "bias", None)
            state_dict[f"{theirs}.bias"] = torch.zeros(width) if bias is None else bias
    if model.head is not None and model.head.bias is not None:
        state_dict["transformer.ln_f.bias"] = _with_head_bias(state_dict["transformer.ln_f.bias"], model.head)
    return state_dict


@torch.no_grad()
def _with_head_bias(norm_bias: Tensor, head: nn.Linear) -> Tensor:
    """The last norm's bias b (C) with the head's bias c (V) moved into it: b' such that W b' = W b + c.

    Such a b' exists for every c if the vocabulary is at most as large as the width, as in the lecture's model.
    """
    # In float64: the residue is judged against logits in float32.
    weight, bias = head.weight.double(), head.bias.double()
    if not bias.any():
        return norm_bias
    # gelsd works by SVD: it solves also for a W that lacks full rank, and of many solutions it gives the smallest.
    moved = torch.linalg.lstsq(weight, bias.unsqueeze(1), driver="gelsd").solution  # (C, 1)
    residue = float((weight @ moved - bias.unsqueeze(1)).abs().max())
    if residue > LARGEST_RESIDUE:
        vocabulary, width = head.weight.shape
        raise ConfigError(
            f"GPT-2's head has no bias, and with {vocabulary:,} tokens on a width of {width:,} this model's cannot "
            f"move into the last norm (logits would be off by up to {residue:.2g}).",
            remedy="Export a model with tie_embeddings: true or bias: false.",
        )
    folded: Tensor = norm_bias.double() + moved.squeeze(1)
    return folded.float()


def shape_of(config: Mapping[str, Any], name: str) -> GPTShape:
    """The shape that a config.json describes; `name` is what errors call it.

    Raises ConfigError if a GPT cannot compute it.
    """
    if config.get("model_type") != "gpt2":
        raise ConfigError(f"{name} is a {config.get('model_type')} model.", remedy="Only GPT-2 can be imported.")
    differing = [f"{key} {config[key]}" for key, value in REQUIRED_VALUES.items() if config.get(key, value) != value]
    activation = config.get("activation_function", "gelu_new")
    if activation not in READ_ACTIVATIONS:
        differing.append(f"activation_function {activation}")
    if config.get("layer_norm_epsilon", EPSILON) != EPSILON:
        differing.append(f"layer_norm_epsilon {config['layer_norm_epsilon']}")
    if differing:
        raise ConfigError(
            f"{name} has {', '.join(differing)}, which a GPT does not compute.",
            remedy="Import a model with the arithmetic of GPT-2 itself.",
        )
    return GPTShape(
        vocab_size=config["vocab_size"],
        layers=config["n_layer"],
        width=config["n_embd"],
        heads=config["n_head"],
        context=config.get("n_positions", config.get("n_ctx")),  # n_ctx is its name in the oldest configs
        hidden=config.get("n_inner"),
        activation=READ_ACTIVATIONS[activation],  # type: ignore[arg-type]  # a dict's values are str
        tie_embeddings=config.get("tie_word_embeddings", True),
    )


def model_of(shape: GPTShape, tensors: Mapping[str, Tensor], name: str) -> GPT:
    """A GPT in evaluation mode with the tensors of a GPT-2; `name` is what errors call their folder.

    Raises ConfigError if any is missing, surplus or of another size.
    """
    prefixed = {_full_name(tensor): value for tensor, value in tensors.items() if not tensor.endswith(MASKS)}
    model = GPT(shape).eval()
    if model.head is None:
        prefixed.pop("lm_head.weight", None)  # some files store a tied head a second time
    # An untrained export of the same shape lists every name and size that must be there.
    wanted = state_dict_of(model)
    for tensor in {**wanted, **prefixed}:
        here = tuple(wanted[tensor].shape) if tensor in wanted else "nothing"
        there = tuple(prefixed[tensor].shape) if tensor in prefixed else "nothing"
        if here != there:
            raise ConfigError(
                f"{name} holds {there} for {tensor}, its config.json asks for {here}.", remedy="Get the folder again."
            )
    _fill(model, prefixed)
    return model


@torch.no_grad()
def _fill(model: GPT, tensors: Mapping[str, Tensor]) -> None:
    for ours, theirs, transposed in _modules(model.shape):
        module = model.get_submodule(ours)
        weight = tensors[f"{theirs}.weight"]
        module.get_parameter("weight").copy_(weight.T if transposed else weight)
        if f"{theirs}.bias" in tensors:
            module.get_parameter("bias").copy_(tensors[f"{theirs}.bias"])


def _full_name(tensor: str) -> str:
    """The name with its prefix, which files saved from `GPT2Model` instead of `GPT2LMHeadModel` lack."""
    return tensor if tensor.startswith(("transformer.", "lm_head.")) else f"transformer.{tensor}"


def _modules(shape: GPTShape) -> Iterator[tuple[str, str, bool]]:
    """Every module that has weights: our name, theirs, and whether its matrix is transposed there."""
    yield "token_embedding", "transformer.wte", False
    yield "position_embedding", "transformer.wpe", False
    for layer in range(shape.layers):
        ours, theirs = f"blocks.{layer}", f"transformer.h.{layer}"
        yield f"{ours}.attention_norm", f"{theirs}.ln_1", False
        yield f"{ours}.attention.qkv", f"{theirs}.attn.c_attn", True
        yield f"{ours}.attention.output", f"{theirs}.attn.c_proj", True
        yield f"{ours}.feed_forward_norm", f"{theirs}.ln_2", False
        yield f"{ours}.feed_forward.up", f"{theirs}.mlp.c_fc", True
        yield f"{ours}.feed_forward.down", f"{theirs}.mlp.c_proj", True
    yield "final_norm", "transformer.ln_f", False
    if not shape.tie_embeddings:
        yield "head", "lm_head", False
