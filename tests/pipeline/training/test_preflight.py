from __future__ import annotations

from typing import Any

import pytest

from pipeline.config.schema import Config
from pipeline.errors import ConfigError
from pipeline.graph.stage_counts import ShardsCounts, TextTotals
from pipeline.graph.stages import STAGES
from pipeline.training.preflight import refuse_impossible


def shards_of(validation: int) -> ShardsCounts:
    """A corpus of 40 samples and a target of 9, with so many tokens in its validation split."""

    def totals(tokens: int) -> TextTotals:
        return TextTotals(documents=1, tokens=tokens, bytes=3 * tokens)

    return ShardsCounts(
        target_train=totals(9 * 256 + 1),
        target_selection=totals(200),
        target_validation=totals(validation),
        corpus_train=totals(40 * 256 + 1),
        corpus_validation=totals(0),
        sources={"x": totals(40 * 256 + 1)},
        val_ngrams_left_in_shards=0,
    )


def config(**changes: Any) -> Config:
    return Config.model_validate({"name": "x", "corpus": {"sources": [{"path": "x"}]}, **changes})


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"scratch": {"batch_tokens": 1000}}, r"scratch\.batch_tokens is 1,000, not a multiple of 512"),
        ({"pretrain": {"tokens": 81_920, "branch_at": [10]}}, r"branch_at has 10, .* pretraining itself ends at 10"),
        ({"deepspeed": {"train_batch_size": 3}}, r"deepspeed\.train_batch_size cannot be set here"),
    ],
)
def test_what_no_data_can_mend_is_refused(changes: dict[str, Any], refusal: str) -> None:
    refuse_impossible(config(), STAGES, 2)
    with pytest.raises(ConfigError, match=refusal):
        refuse_impossible(config(**changes), STAGES, 2)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        (
            {"pretrain": {"batch_tokens": 16_384}},
            r"pretrain\.batch_tokens 16,384 asks for 64 samples .* has 40 samples",
        ),
        ({"scratch": {"batch_tokens": 4096}}, r"scratch\.batch_tokens 4,096 .* the target's training split has 9"),
        ({"model": {"context": 4096}}, r"The target's training split has 2,305 tokens, less than 4,097\."),
    ],
)
def test_text_that_is_too_short_for_what_was_set_is_refused_once_it_is_counted(
    changes: dict[str, Any], refusal: str
) -> None:
    counts = shards_of(validation=200)
    refuse_impossible(config(), STAGES, 1, counts)
    refuse_impossible(config(**changes), STAGES, 1)
    with pytest.raises(ConfigError, match=refusal):
        refuse_impossible(config(**changes), STAGES, 1, counts)


@pytest.mark.parametrize("name", ["pretrain", "scratch", "finetune"])
def test_a_stage_is_refused_exactly_when_it_is_ahead(name: str) -> None:
    impossible = config(**{name: {"batch_tokens": 1000}})
    refuse_impossible(impossible, [stage for stage in STAGES if stage.name != name], 2)
    with pytest.raises(ConfigError, match=rf"^{name}\.batch_tokens is 1,000, not a multiple of"):
        refuse_impossible(impossible, [stage for stage in STAGES if stage.name == name], 2)


def test_the_number_of_ranks_decides_whether_a_batch_divides() -> None:
    three = config(scratch={"batch_tokens": 3 * 256}, model={"context": 256})
    scratch = [stage for stage in STAGES if stage.name == "scratch"]
    refuse_impossible(three, scratch, 3)
    with pytest.raises(ConfigError, match=r"\(2 ranks x micro_batch 1 x context 256\)") as caught:
        refuse_impossible(three, scratch, 2)
    assert caught.value.remedy.startswith("Use 1,024")
    refuse_impossible(config(scratch={"batch_tokens": 1024}, model={"context": 256}), scratch, 2)


def test_a_validation_split_of_one_token_is_refused_before_anything_trains() -> None:
    refuse_impossible(config(), STAGES, 1, shards_of(validation=3))
    with pytest.raises(ConfigError, match="validation split has 1 token; an interval needs two"):
        refuse_impossible(config(), STAGES, 1, shards_of(validation=2))
