import math

import pytest
import torch
from torch import Tensor

from gpt.counts import num_parameters
from gpt.lecture import (
    RUNGS,
    CharacterModel,
    MultiHead,
    Sizes,
    average_by_loop,
    average_by_matrix,
    average_by_softmax,
    batched,
    draw_batch,
    fit,
    generate,
    mean_loss,
    past_weights,
    stacked,
)
from gpt.model import GPT, GPTShape

LECTURE = Sizes(vocab_size=65, context=8, width=32, heads=4, layers=3)
LECTURE_GPT = {"context": 8, "width": 32, "heads": 4, "layers": 3}
CHOICES = {"position": "learned", "norm": "layernorm", "activation": "relu", "qkv_bias": False, "tie_embeddings": False}


def random(*size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=dtype)


def tokens(batch: int = 3, time: int = 8) -> Tensor:
    return torch.randint(65, (batch, time), generator=torch.Generator().manual_seed(0))


def rung(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return RUNGS[name](LECTURE).double()


@pytest.mark.parametrize("average", [average_by_loop, average_by_matrix, average_by_softmax])
def test_averages_of_2_4_9_are_2_3_5(average) -> None:
    x = torch.tensor([2.0, 4.0, 9.0]).view(1, 3, 1)
    torch.testing.assert_close(average(x), torch.tensor([2.0, 3.0, 5.0]).view(1, 3, 1))


@pytest.mark.parametrize("average", [average_by_matrix, average_by_softmax])
def test_the_three_averages_of_the_past_are_equal(average) -> None:
    x = random(4, 8, 32)
    torch.testing.assert_close(average(x), average_by_loop(x))


def test_weights_of_the_past_are_the_softmax_of_what_lies_there() -> None:
    scores = torch.tensor([[0.0, 9.0], [0.0, math.log(3.0)]])
    torch.testing.assert_close(past_weights(scores), torch.tensor([[1.0, 0.0], [0.25, 0.75]]))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("bigram", 65 * 65),
        ("one-head", (65 + 8) * 32 + 3 * 32 * 32 + 33 * 65),
        ("multi-head", (65 + 8) * 32 + 4 * 3 * 32 * 8 + 33 * 65),
        ("feed-forward", (65 + 8) * 32 + 4 * 3 * 32 * 8 + 33 * 32 + 33 * 65),
        ("residual", (65 + 8) * 32 + 3 * (3 * 32 * 32 + 33 * 32 + 33 * 128 + 129 * 32) + 33 * 65),
        ("layernorm", (65 + 8) * 32 + 3 * (3 * 32 * 32 + 33 * 32 + 33 * 128 + 129 * 32 + 128) + 64 + 33 * 65),
    ],
)
def test_parameters_are_those_counted_by_hand(name: str, parameters: int) -> None:
    assert sum(parameter.numel() for parameter in RUNGS[name](LECTURE).parameters()) == parameters


def test_the_scaled_up_rung_has_the_lectures_10_788_929_parameters() -> None:
    shape = GPTShape(vocab_size=65, context=256, width=384, heads=6, layers=6, dropout=0.2, **CHOICES)
    assert num_parameters(shape) == 10_788_929


@pytest.mark.parametrize("name", RUNGS)
def test_no_rung_sees_the_future(name: str) -> None:
    model, first = rung(name), tokens()
    changed = first.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % 65
    torch.testing.assert_close(model(changed)[:, :5], model(first)[:, :5])
    assert not torch.allclose(model(changed)[:, 5:], model(first)[:, 5:])


@pytest.mark.parametrize("name", RUNGS)
def test_every_parameter_of_a_rung_gets_a_gradient(name: str) -> None:
    model = rung(name)
    mean_loss(model, tokens(64), tokens(64).roll(1)).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_a_list_of_heads_and_the_batched_class_give_equal_outputs_and_gradients() -> None:
    torch.manual_seed(0)
    heads = MultiHead(LECTURE, mixes=True).double()
    attention = batched(heads)
    inputs = [random(3, 8, 32).requires_grad_() for _ in range(2)]
    outputs = [module(x) for module, x in zip((heads, attention), inputs, strict=True)]
    torch.testing.assert_close(outputs[0], outputs[1])
    for output in outputs:
        (output * random(3, 8, 32)).sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    torch.testing.assert_close(stacked(heads, lambda linear: linear.weight.grad), attention.qkv.weight.grad)
    torch.testing.assert_close(heads.output.weight.grad, attention.output.weight.grad)
    torch.testing.assert_close(heads.output.bias.grad, attention.output.bias.grad)


def test_the_layernorm_rung_is_the_real_model_with_the_lectures_choices() -> None:
    model = rung("layernorm")
    gpt = GPT(GPTShape(vocab_size=65, **LECTURE_GPT, **CHOICES)).double()
    gpt.load_state_dict(as_gpt(model))
    torch.testing.assert_close(gpt(tokens()), model(tokens()))


def as_gpt(model: CharacterModel) -> dict[str, Tensor]:
    """The weights of the layernorm rung under the names that the real model has for them."""
    *blocks, final_norm = model.body
    parts = {
        "token_embedding": model.token_embedding,
        "position_embedding": model.position_embedding,
        "final_norm": final_norm,
        "head": model.head,
    }
    for layer, block in enumerate(blocks):
        parts |= {
            f"blocks.{layer}.attention_norm": block.attention_norm,
            f"blocks.{layer}.attention": batched(block.attention),
            f"blocks.{layer}.feed_forward_norm": block.feed_forward_norm,
            f"blocks.{layer}.feed_forward.up": block.feed_forward[0],
            f"blocks.{layer}.feed_forward.down": block.feed_forward[2],
        }
    return {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}


def test_targets_are_the_tokens_one_later_and_every_window_can_be_drawn() -> None:
    text = torch.arange(12)
    drawn, targets = draw_batch(text, 500, 8, torch.Generator().manual_seed(0))
    torch.testing.assert_close(targets, drawn + 1)
    assert set(drawn[:, 0].tolist()) == {0, 1, 2, 3}


def test_knowing_nothing_costs_the_logarithm_of_the_vocabulary() -> None:
    table = torch.nn.Embedding(65, 65)
    torch.nn.init.zeros_(table.weight)
    assert mean_loss(table, tokens(), tokens()).item() == pytest.approx(math.log(65))


def test_a_bigram_learns_a_text_that_repeats_and_writes_it() -> None:
    torch.manual_seed(0)
    text = torch.tensor([0, 1, 2]).repeat(50)
    model = RUNGS["bigram"](Sizes(vocab_size=3, context=4, width=1, heads=1, layers=1))
    generator = torch.Generator().manual_seed(0)
    fit(model, text, context=4, batch=8, steps=200, learning_rate=0.1, generator=generator)
    written = generate(model, torch.zeros(1, 1, dtype=torch.int64), 8, context=4, generator=generator)
    assert written.tolist() == [[0, 1, 2, 0, 1, 2, 0, 1, 2]]
