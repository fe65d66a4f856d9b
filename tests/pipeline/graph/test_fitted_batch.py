"""Which batch a short text gets: halved where the default stands, else refused with values that are then accepted."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pipeline.config.training_sections import PretrainSection, ScratchSection, TrainingSection
from pipeline.errors import ConfigError
from pipeline.graph.fitted_batch import FittedBatch, TrainingText, fitted_section
from pipeline.graph.stage_counts import ShardsCounts, TextTotals


def text_of(tokens: int, *more: tuple[int, float], held_out: int = 100_000) -> TrainingText:
    return TrainingText("the corpus", ((tokens, 1.0), *more), held_out)


def fitted(text: TrainingText, ranks: int = 1, context: int = 256, **section: Any) -> FittedBatch:
    return FittedBatch.of("pretrain", PretrainSection(**section), text, context=context, ranks=ranks)


def test_a_text_that_fills_the_batch_changes_nothing() -> None:
    assert fitted(text_of(32 * 256 + 1)) == FittedBatch(8192)


@pytest.mark.parametrize(
    ("samples", "batch_samples"), [(31, 16), (16, 16), (15, 8), (7, 4), (4, 4), (3, 2), (2, 2), (1, 1)]
)
def test_a_default_batch_is_halved_until_an_epoch_fills_it(samples: int, batch_samples: int) -> None:
    batch = fitted(text_of(samples * 256 + 1))
    assert batch.batch_tokens == batch_samples * 256
    has = f"has {samples} sample{'s' * (samples > 1)} of 256 tokens"
    assert f"{has}: batches of {batch.batch_tokens:,} tokens instead of 8,192" in batch.note


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_the_number_of_ranks_does_not_change_the_batch(ranks: int) -> None:
    assert fitted(text_of(5 * 256 + 1), ranks=ranks).batch_tokens == 4 * 256


def test_samples_are_those_of_each_stream_by_its_weight() -> None:
    # 2 whole samples; 3 samples two and a half times; and a stream that does not fill one.
    text = text_of(2 * 16 + 1, (3 * 16 + 9, 2.5), (16, 9.0))
    assert text.num_samples(16) == 2 + 8


def cure(refusal: ConfigError) -> dict[str, int]:
    """The first remedy, as settings and options."""
    first = refusal.remedy.removeprefix("Use ").split(", or ")[0]
    values = dict(re.findall(r"([\w.]+)=(\d+)", first))
    ranks = re.search(r"--ranks (\d+)", first)
    return {key: int(value) for key, value in {**values, **({"ranks": ranks[1]} if ranks else {})}.items()}


@pytest.mark.parametrize(
    ("tokens", "ranks", "asked"),
    [(20 * 256 + 1, 1, 8192 * 2), (20 * 256 + 1, 3, 24 * 256), (5 * 256 + 1, 4, 8 * 256), (300, 1, 512)],
)
def test_a_batch_that_was_set_is_refused_with_one_that_is_accepted(tokens: int, ranks: int, asked: int) -> None:
    with pytest.raises(
        ConfigError, match=rf"pretrain\.batch_tokens {asked:,} asks for {asked // 256} samples"
    ) as caught:
        fitted(text_of(tokens), ranks=ranks, batch_tokens=asked)
    batch_tokens = cure(caught.value)["pretrain.batch_tokens"]
    assert fitted(text_of(tokens), ranks=ranks, batch_tokens=batch_tokens) == FittedBatch(batch_tokens)
    assert batch_tokens % (ranks * 256) == 0


@pytest.mark.parametrize("batch_tokens", [8192, 4096])
@pytest.mark.parametrize(("tokens", "ranks"), [(200, 1), (200, 4), (3 * 256 + 1, 8), (257, 2), (2, 1)])
def test_less_than_a_sample_for_each_rank_is_refused_with_a_cure_that_works(
    tokens: int, ranks: int, batch_tokens: int
) -> None:
    with pytest.raises(ConfigError, match=f"The corpus has {tokens} tokens") as caught:
        fitted(text_of(tokens), ranks=ranks, batch_tokens=batch_tokens)
    values = cure(caught.value)
    context = values.get("model.context", 256)
    ranks, batch_tokens = values.get("ranks", ranks), values.get("pretrain.batch_tokens", batch_tokens)
    assert (
        fitted(text_of(tokens), ranks=ranks, context=context, batch_tokens=batch_tokens).batch_tokens >= ranks * context
    )


def test_no_cure_is_invented_where_only_more_text_helps() -> None:
    with pytest.raises(ConfigError) as caught:
        fitted(text_of(1))
    assert caught.value.remedy == "Give more text."


def test_each_stage_trains_on_its_own_text() -> None:
    def totals(tokens: int) -> TextTotals:
        return TextTotals(documents=1, tokens=tokens, bytes=3 * tokens)

    counts = ShardsCounts(
        target_train=totals(900),
        target_selection=totals(50),
        target_validation=totals(100),
        corpus_train=totals(5000),
        corpus_validation=totals(40),
        sources={"a": totals(4000), "b": totals(1000)},
        val_ngrams_left_in_shards=0,
    )
    corpus = TrainingText.of("pretrain", counts, {"b": 2.0})
    assert (corpus.streams, corpus.held_out_tokens, corpus.tokens) == (((4000, 1.0), (1000, 2.0)), 40, 5000)
    target = TrainingText.of("scratch", counts, {})
    assert (target.streams, target.held_out_tokens) == (((900, 1.0),), 50)


def notes(section: TrainingSection, held_out: int) -> list[str]:
    return fitted_section("x", section, text_of(32 * 256 + 1, held_out=held_out), context=256, ranks=1)[1]


def test_what_pretraining_lacks_to_be_evaluated_on_is_said_and_stops_nothing() -> None:
    assert notes(PretrainSection(), 65_536) == []
    assert notes(PretrainSection(), 900) == [
        "the held-out part of the corpus has 900 tokens, less than evaluate_tokens 65,536: all of it is scored."
    ]
    assert notes(PretrainSection(), 0) == ["the corpus has no held-out part: training goes without a validation loss."]
    assert notes(ScratchSection(), 0) == []
