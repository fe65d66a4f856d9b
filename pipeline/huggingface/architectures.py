"""Which architecture of `transformers` computes the same as a GPT, and the GPT written as that architecture.

    learned positions, layer norm, relu | gelu | relu2                       GPT-2
    rotary positions, RMS norm, relu2 | swiglu, without and with qk norm     Llama, Qwen3

Everything else is refused. So is a field of GPTShape that this module does not know, unless it has its default: a new
option must not be exported by accident as if it were not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from typing import Any

from torch import Tensor

from gpt.model import GPT, GPTShape
from pipeline.errors import ConfigError
from pipeline.huggingface import gpt2, llama

FOR_TRAINING = {"zero_init", "dropout"}  # fields that do not change the logits of a trained model
SIZES = {"vocab_size", "layers", "width", "heads", "context", "kv_heads", "hidden"}
CHOICES = {"position", "norm", "activation", "qk_norm", "bias", "qkv_bias", "tie_embeddings"}
# Listed by hand, not taken from GPTShape: a field that is added there is refused here until somebody translates it.
UNDERSTOOD = FOR_TRAINING | SIZES | CHOICES


@dataclass(frozen=True)
class ExportedModel:
    """A model as `transformers` stores it: config.json, and the tensors of model.safetensors in float32."""

    config: dict[str, Any]
    state_dict: dict[str, Tensor]

    @property
    def architecture(self) -> str:
        """The name of its class in `transformers`."""
        return str(self.config["architectures"][0])


def exported_model(model: GPT, end_of_text: int) -> ExportedModel:
    """The model as GPT-2, Llama or Qwen3; `end_of_text` is the token id that begins every document.

    Raises ConfigError with every reason if none of them can express it.
    """
    reasons = list(obstacles(model.shape))
    if reasons:
        raise ConfigError(
            f"No standard architecture computes this model: {'; '.join(reasons)}.",
            remedy="Export a model without it; `folio sample` reads this one as it is.",
        )
    # Positions decide first: each family below has only one kind of them.
    family = gpt2 if model.shape.position == "learned" else llama
    config = family.config_of(model.shape) | {
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "tie_word_embeddings": model.shape.tie_embeddings,
        "dtype": "float32",
    }
    # Cloned: safetensors refuses tensors that share memory, and some of these are views or the same matrix twice.
    state_dict = {name: weight.detach().clone().contiguous() for name, weight in family.state_dict_of(model).items()}
    return ExportedModel(config, state_dict)


def obstacles(shape: GPTShape) -> Iterator[str]:
    """Why no standard architecture has this shape; nothing if one has."""
    for field in fields(shape):
        value = getattr(shape, field.name)
        default = None if field.default is MISSING else field.default
        if field.name not in UNDERSTOOD and value != default:
            yield f"none has {field.name} {value}"
    yield from gpt2.obstacles(shape) if shape.position == "learned" else llama.obstacles(shape)
