from dataclasses import replace
from itertools import product

import pytest

from gpt.counts import flops_per_token, num_hidden_parameters, num_parameters
from gpt.model import GPT, GPTShape

LECTURE = GPTShape(
    vocab_size=65,
    layers=6,
    width=384,
    heads=6,
    context=256,
    activation="relu",
    qkv_bias=False,
    tie_embeddings=False,
    dropout=0.2,
)
GPT2 = GPTShape(vocab_size=50257, layers=12, width=768, heads=12, context=1024)
TINY = GPTShape(vocab_size=17, layers=2, width=16, heads=4, context=8)


def test_lecture_model_has_the_parameters_shown_in_the_lecture() -> None:
    assert num_parameters(LECTURE) == 10_788_929


def test_gpt2_has_its_published_parameters() -> None:
    assert num_parameters(GPT2) == 124_439_808
    assert num_parameters(GPT2, embeddings=False) == 124_439_808 - (50257 + 1024) * 768


def test_counted_parameters_are_the_built_ones() -> None:
    choices = product(
        ("learned", "rope"), ("layernorm", "rmsnorm"), ("gelu", "swiglu"), (True, False), (True, False), (2, 4)
    )
    for position, norm, activation, bias, tied, kv_heads in choices:
        shape = replace(
            TINY, position=position, norm=norm, activation=activation, bias=bias, tie_embeddings=tied, kv_heads=kv_heads
        )
        model = GPT(shape)
        assert num_parameters(shape) == sum(parameter.numel() for parameter in model.parameters()), shape
        hidden = sum(matrix.numel() for matrices, _ in model.hidden_matrices() for matrix in matrices)
        assert num_hidden_parameters(shape) == hidden, shape


def test_counted_parameters_include_scalars_and_value_embeddings() -> None:
    shape = replace(TINY, layers=3, kv_heads=2, residual_scalars=True, value_embeddings=True)
    assert num_parameters(shape) == sum(parameter.numel() for parameter in GPT(shape).parameters())
    assert num_parameters(shape) - num_parameters(replace(TINY, layers=3, kv_heads=2)) == 3 * 2 + 2 * 17 * 8


def test_training_flops_of_a_hand_computed_model() -> None:
    # Matrices: qkv 16 x 48, output 16 x 16, up and down 16 x 64 each = 3,072 a layer, head 17 x 16 = 272.
    # A query sees 4.5 keys on average: 2 x 16 for each score, 2 x 16 for each weighted value.
    forward = 2 * (2 * 3072 + 272) + 2 * 4.5 * 64
    assert flops_per_token(TINY) == 3 * forward


def test_training_flops_of_gpt2_are_near_six_per_parameter() -> None:
    assert flops_per_token(GPT2) / (6 * 123_532_032) == pytest.approx(1.076, abs=0.001)
