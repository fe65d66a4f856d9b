"""The ladder of models, their vocabularies, and the order that the law puts them in."""

from __future__ import annotations

import itertools

import pytest

from gpt.counts import num_parameters
from pipeline.sizing.model_sizes import CandidateModel, expected_excess, model_sizes, useful_bytes


def test_each_model_is_larger_than_the_one_before_but_never_four_times() -> None:
    counts = [num_parameters(size.shape(), embeddings=False) for size in model_sizes(10**12)]
    assert len(counts) > 15
    assert all(before < after < 4 * before for before, after in itertools.pairwise(counts))


def test_a_larger_model_never_has_a_smaller_vocabulary() -> None:
    vocabularies = [size.vocab_size for size in model_sizes(10**12)]
    assert vocabularies == sorted(vocabularies)
    assert vocabularies[0] == 1024
    assert vocabularies[-1] >= 16_384


def test_a_small_text_gets_a_small_vocabulary() -> None:
    assert {size.vocab_size for size in model_sizes(40_000)} == {512}
    # 1,024 entries of 2.7 bytes, 200 times each.
    assert max(size.vocab_size for size in model_sizes(1024 * 200 * 3)) == 1024


def test_repeated_text_is_worth_less_and_in_the_end_nothing() -> None:
    assert useful_bytes(700.0, 1000.0) == 700.0
    # Four epochs: 1 + 15.4 (1 - exp(-3 / 15.4)).
    assert useful_bytes(4000.0, 1000.0) == pytest.approx(3725.7, abs=1.0)
    assert useful_bytes(1e9, 1000.0) == pytest.approx(16_400.0)


def test_the_law_prefers_about_twenty_tokens_per_parameter() -> None:
    flops = 6 * 1e8 * 20 * 1e8  # Hoffmann et al. 2022: the best model for so much arithmetic has 1e8 parameters
    excess = {
        parameters: expected_excess(parameters, 4.4 * flops / 6 / parameters)
        for parameters in (10**7, 3 * 10**7, 10**8, 3 * 10**8, 10**9)
    }
    assert min(excess, key=lambda parameters: excess[parameters]) == 10**8


# docs/decisions/a-run-that-fits.md: layers, width, vocabulary, tokens, their bytes each, and the loss in bits/byte.
MEASURED = {
    "48 seconds of pretraining": [
        (2, 64, 1024, 1_333_248, 2.284, 2.329),
        (2, 64, 2048, 1_089_536, 2.605, 2.334),
        (3, 64, 2048, 888_832, 2.605, 2.351),
        (2, 48, 1024, 1_716_224, 2.284, 2.353),
        (2, 96, 2048, 722_944, 2.605, 2.387),
        (3, 96, 2048, 579_584, 2.605, 2.395),
        (2, 48, 512, 2_064_384, 1.892, 2.417),
    ],
    "10 minutes": [
        (2, 64, 1024, 5_206_016, 2.284, 2.288),
        (2, 64, 2048, 4_136_960, 2.605, 2.312),
        (3, 96, 2048, 2_088_960, 2.605, 2.337),
        (4, 128, 2048, 847_872, 2.605, 2.408),
    ],
    "30 minutes": [
        (4, 128, 2048, 14_417_920, 2.605, 2.064),
        (6, 256, 4096, 2_846_720, 2.918, 2.096),
        (3, 96, 2048, 40_796_160, 2.605, 2.101),
        (2, 64, 1024, 66_830_336, 2.284, 2.273),
    ],
}


@pytest.mark.parametrize("budget", MEASURED)
def test_what_the_law_prefers_is_nearly_the_best_that_was_measured(budget: str) -> None:
    losses = {}
    for layers, width, vocab_size, tokens, bytes_per_token, loss in MEASURED[budget]:
        shape = CandidateModel(layers, width, 2, 256, vocab_size).shape()
        losses[expected_excess(num_parameters(shape), tokens * bytes_per_token)] = loss
    assert losses[min(losses)] <= min(losses.values()) + 0.03


def test_a_size_is_a_model_of_the_config() -> None:
    size = CandidateModel(layers=3, width=96, heads=3, context=256, vocab_size=1024)
    assert size.section().heads == 3
    assert (size.shape().vocab_size, size.shape().context) == (1024, 256)
