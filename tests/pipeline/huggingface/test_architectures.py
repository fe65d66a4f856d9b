"""Which shapes have a standard architecture; `test_export.py` runs each through `transformers`."""

from __future__ import annotations

import pytest
import torch

from gpt.model import GPT, GPTShape
from pipeline.errors import ConfigError
from pipeline.huggingface.architectures import exported_model, obstacles

SIZES = {"layers": 2, "width": 32, "heads": 4, "context": 24}
MODERN = GPTShape(9, **SIZES, position="rope", norm="rmsnorm", activation="swiglu", bias=False)


def test_a_field_of_the_shape_that_the_mapping_does_not_know_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "pipeline.huggingface.architectures.UNDERSTOOD", {"vocab_size", "layers", "width", "heads", "context"}
    )
    exported_model(GPT(GPTShape(vocab_size=9, **SIZES)), 0)  # all at their defaults
    with pytest.raises(ConfigError, match="none has hidden 40; none has qkv_bias False"):
        exported_model(GPT(GPTShape(vocab_size=9, **SIZES, hidden=40, qkv_bias=False)), 0)


def test_every_reason_is_named_at_once() -> None:
    shape = GPTShape(9, **SIZES, norm="rmsnorm", bias=False, qk_norm=True, logit_softcap=3.0)
    assert list(obstacles(shape)) == [
        "none has logit_softcap 3.0",
        "with learned positions the norm must be layernorm, not rmsnorm",
        "with learned positions there is no qk_norm",
    ]
    assert list(obstacles(MODERN)) == []


def test_exported_tensors_are_copies_that_share_no_memory() -> None:
    model = GPT(MODERN)
    exported = exported_model(model, 7)
    tensors = list(exported.state_dict.values())
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == len(tensors)
    assert all(tensor.is_contiguous() and not tensor.requires_grad for tensor in tensors)
    before = exported.state_dict["model.norm.weight"].clone()
    torch.nn.init.zeros_(model.final_norm.get_parameter("weight"))
    assert torch.equal(exported.state_dict["model.norm.weight"], before)
    ends = exported.config["bos_token_id"], exported.config["eos_token_id"]
    assert (exported.architecture, ends) == ("LlamaForCausalLM", (7, 7))
