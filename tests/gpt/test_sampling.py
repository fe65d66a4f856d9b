from dataclasses import replace

import pytest
import torch

from gpt.model import GPT, GPTShape
from gpt.sampling import generate, probabilities

LEARNED = GPTShape(vocab_size=17, layers=2, width=16, heads=4, context=8)
ROPE = replace(LEARNED, position="rope", norm="rmsnorm", activation="relu2", qk_norm=True, bias=False, kv_heads=2)
LOGITS = torch.tensor([[0.1, 0.4, 0.2, 0.3]]).log()


def lively(shape: GPTShape) -> GPT:
    model = GPT(shape)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)), alpha=0.3)
    return model


def prompt(length: int, batch: int = 2) -> torch.Tensor:
    return torch.randint(17, (batch, length), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.1, 0.4, 0.2, 0.3]),
        ({"temperature": 0.5}, [1 / 30, 16 / 30, 4 / 30, 9 / 30]),  # squares, scaled to sum to 1
        ({"top_k": 2}, [0, 4 / 7, 0, 3 / 7]),
        ({"top_k": 9}, [0.1, 0.4, 0.2, 0.3]),
        ({"top_p": 0.65}, [0, 4 / 7, 0, 3 / 7]),  # 0.4 is not enough, 0.4 + 0.3 is
        ({"top_p": 0.75}, [0, 4 / 9, 2 / 9, 3 / 9]),
        ({"top_p": 1e-6}, [0, 1, 0, 0]),
        ({"top_p": 1.0}, [0.1, 0.4, 0.2, 0.3]),
        ({"top_k": 3, "top_p": 0.42}, [0, 1, 0, 0]),  # of the three kept it has 4/9, of all only 0.4
    ],
    ids=str,
)
def test_probabilities_are_cut_and_scaled(options: dict[str, float], expected: list[float]) -> None:
    torch.testing.assert_close(probabilities(LOGITS, **options), torch.tensor([expected], dtype=torch.float32))


def test_equal_logits_keep_exactly_k_tokens() -> None:
    assert (probabilities(torch.zeros(1, 5), top_k=2) > 0).sum() == 2


@pytest.mark.parametrize("options", [{"temperature": -1.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}], ids=str)
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        generate(GPT(LEARNED), prompt(2), 1, **options)


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="prompt is empty"):
        generate(GPT(LEARNED), prompt(0), 1)


@pytest.mark.parametrize("shape", [LEARNED, ROPE], ids=["learned", "rope"])
def test_greedy_tokens_are_those_of_whole_forwards(shape: GPTShape) -> None:
    model, tokens = lively(shape).eval(), prompt(3)
    sampled = generate(model, tokens, 5, temperature=0)
    for _ in range(5):
        tokens = torch.cat((tokens, model(tokens)[:, -1:].argmax(dim=-1)), dim=1)
    assert torch.equal(sampled, tokens)


@pytest.mark.parametrize("shape", [LEARNED, ROPE], ids=["learned", "rope"])
def test_text_outgrows_the_context_from_its_second_half(shape: GPTShape) -> None:
    model = lively(shape).eval()
    sampled = generate(model, prompt(8), 8, temperature=0)
    assert sampled.shape == (2, 16)
    # The first window is full when it has predicted token 8, the second holds tokens 5 to 12, the third starts at 10.
    starts = {8: 0, 9: 5, 10: 5, 11: 5, 12: 5, 13: 5, 14: 10, 15: 10}
    for end, start in starts.items():
        assert torch.equal(sampled[:, end], model(sampled[:, start:end])[:, -1].argmax(dim=-1)), end


def test_a_prompt_longer_than_the_context_is_continued_from_its_end() -> None:
    model = lively(LEARNED)
    long = prompt(20)
    assert torch.equal(
        generate(model, long, 1, temperature=0)[:, -1:], generate(model, long[:, -8:], 1, temperature=0)[:, -1:]
    )


def test_samples_depend_on_the_generator_only() -> None:
    model = lively(ROPE)
    first, second = (generate(model, prompt(2), 12, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    other = generate(model, prompt(2), 12, generator=torch.Generator().manual_seed(6))
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_sampled_frequencies_follow_the_probabilities() -> None:
    model = lively(ROPE).eval()
    start = prompt(2, batch=1)
    drawn = generate(model, start.expand(4000, 2), 1, generator=torch.Generator().manual_seed(0))[:, -1]
    frequencies = drawn.bincount(minlength=17) / 4000
    torch.testing.assert_close(frequencies, probabilities(model(start)[:, -1])[0], atol=0.03, rtol=0.0)


def test_dropout_does_not_disturb_samples() -> None:
    model, noisy = lively(ROPE), lively(replace(ROPE, dropout=0.5)).train()
    assert torch.equal(generate(model, prompt(2), 6, temperature=0), generate(noisy, prompt(2), 6, temperature=0))


def test_sampling_leaves_training_mode_as_it_was() -> None:
    model = GPT(LEARNED).train()
    generate(model, prompt(2), 1)
    assert model.training
    assert not generate(model.eval(), prompt(2), 1).requires_grad
    assert not model.training
