"""Names and forms of GPT-2 without `transformers`; `test_export.py` and `test_import_gpt2.py` compare with it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gpt.model import GPT, GPTShape
from pipeline.errors import ConfigError
from pipeline.huggingface.gpt2 import config_of, model_of, shape_of, state_dict_of

TINY = GPTShape(vocab_size=3, layers=1, width=4, heads=2, context=5)


def test_matrices_are_transposed_and_missing_biases_are_zeros() -> None:
    model = GPT(replace(TINY, bias=False))
    theirs = state_dict_of(model)
    assert torch.equal(theirs["transformer.h.0.attn.c_attn.weight"], model.blocks[0].attention.qkv.weight.T)
    assert theirs["transformer.h.0.attn.c_attn.weight"].shape == (4, 12)
    assert torch.equal(theirs["transformer.h.0.attn.c_attn.bias"], torch.zeros(12))
    assert torch.equal(theirs["transformer.wte.weight"], model.token_embedding.weight)
    assert "lm_head.weight" not in theirs, "a tied head is not stored twice"


def test_the_bias_of_a_head_moves_into_the_last_norm() -> None:
    """By hand: rows (2, 0, 0, 0), (0, 4, 0, 0), (0, 0, 1, 0) need (1, 0.5, -1, 0) to give the bias (2, 2, -1)."""
    model = GPT(replace(TINY, tie_embeddings=False))
    assert model.head is not None
    with torch.no_grad():
        model.head.weight.copy_(torch.tensor([[2.0, 0, 0, 0], [0, 4, 0, 0], [0, 0, 1, 0]]))
        model.head.bias.copy_(torch.tensor([2.0, 2.0, -1.0]))
    theirs = state_dict_of(model)
    torch.testing.assert_close(theirs["transformer.ln_f.bias"], torch.tensor([1.0, 0.5, -1.0, 0.0]))
    assert "lm_head.bias" not in theirs


def test_a_bias_with_more_tokens_than_channels_is_refused_unless_it_is_zero() -> None:
    model = GPT(replace(TINY, vocab_size=9, tie_embeddings=False))
    assert model.head is not None
    torch.nn.init.zeros_(model.head.bias)
    state_dict_of(model)
    torch.nn.init.ones_(model.head.bias)
    with pytest.raises(ConfigError, match="with 9 tokens on a width of 4 this model's cannot move into the last norm"):
        state_dict_of(model)


def test_shape_and_weights_return_as_they_were() -> None:
    shape = replace(TINY, activation="relu", hidden=6)
    model = GPT(shape)
    assert shape_of(config_of(shape), "config.json") == shape
    again = model_of(shape, state_dict_of(model), "folder")
    for (name, here), (_, there) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(here, there), name


@pytest.mark.parametrize(
    ("key", "value"), [("scale_attn_weights", False), ("add_cross_attention", True), ("layer_norm_epsilon", 1e-6)]
)
def test_arithmetic_that_a_gpt_does_not_do_is_refused_by_its_key(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"config.json has {key} .*, which a GPT does not compute"):
        shape_of(config_of(TINY) | {key: value}, "config.json")
