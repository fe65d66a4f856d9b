"""Which of the architectures that `transformers` knows computes what a GPT computes, and the GPT in its names.

    learned positions, layer norm, relu | gelu | relu2                       GPT-2
    rotary positions, RMS norm, relu2 | swiglu, without and with qk norm     Llama, Qwen3

Everything else is refused, and so is a field of GPTShape that this module has not heard of, unless it is at its
default: a new option is not exported by accident as if it were not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from typing import Any

from torch import Tensor

from gpt.model import GPT, GPTShape
from pipeline.errors import ConfigError
from pipeline.huggingface import gpt2, llama

FOR_TRAINING = {"zero_init", "dropout"}  # fields that change no logits
UNDERSTOOD = FOR_TRAINING | {
    "vocab_size",
    "layers",
    "width",
    "heads",
    "context",
    "kv_heads",
    "hidden",
    "position",
    "norm",
}
UNDERSTOOD |= {"activation", "qk_norm", "bias", "qkv_bias", "tie_embeddings"}


@dataclass(frozen=True)
class Layout:
    """A model as `transformers` writes it: config.json and the tensors of model.safetensors, in float32."""

    config: dict[str, Any]
    weights: dict[str, Tensor]

    @property
    def architecture(self) -> str:
        """The class in `transformers`."""
        return str(self.config["architectures"][0])


def layout_of(model: GPT, end_of_text: int) -> Layout:
    """The model as GPT-2, Llama or Qwen3. Raises ConfigError with every reason if none of them can express it."""
    reasons = list(obstacles(model.shape))
    if reasons:
        raise ConfigError(
            f"No standard architecture computes this model: {'; '.join(reasons)}.",
            remedy="Export a model without it; `folio sample` reads this one as it is.",
        )
    family = gpt2 if model.shape.position == "learned" else llama
    config = family.config_of(model.shape) | {
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "tie_word_embeddings": model.shape.tie_embeddings,
        "dtype": "float32",
    }
    weights = {name: weight.detach().clone().contiguous() for name, weight in family.weights_of(model).items()}
    return Layout(config, weights)


def obstacles(shape: GPTShape) -> Iterator[str]:
    """Why no standard architecture has this shape; nothing if one has."""
    for field in fields(shape):
        value = getattr(shape, field.name)
        default = None if field.default is MISSING else field.default
        if field.name not in UNDERSTOOD and value != default:
            yield f"{field.name} {value} has no form in any"
    yield from gpt2.obstacles(shape) if shape.position == "learned" else llama.obstacles(shape)
