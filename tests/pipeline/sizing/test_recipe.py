"""How an amount of training becomes a config."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.config.schema import Config
from pipeline.sizing.model_sizes import CandidateModel
from pipeline.sizing.recipe import Wish, amounts, config_values

SMALL = CandidateModel(layers=3, width=64, heads=2, context=256, vocab_size=512)


def test_the_control_gets_as_much_as_pretraining_and_finetuning_together(wish: Callable[..., Wish]) -> None:
    share = amounts(SMALL, 20e6, wish())
    assert share.trainings == 6
    assert share.trainings * share.scratch == pytest.approx(share.pretrain + share.trainings * share.finetune, rel=1e-5)
    assert share.finetune < share.scratch


def test_what_a_small_target_has_no_use_for_goes_to_pretraining(wish: Callable[..., Wish]) -> None:
    small, large = amounts(SMALL, 20e6, wish(target_bytes=50_000)), amounts(SMALL, 20e6, wish())
    assert small.scratch == 255_000  # 12 epochs of 85 % of 50,000 bytes, 2 bytes a token
    assert small.pretrain > large.pretrain
    total = small.pretrain + small.trainings * (small.scratch + small.finetune)
    assert total == pytest.approx(20e6, rel=1e-5)


def test_pretraining_sees_a_small_corpus_at_most_four_times(wish: Callable[..., Wish]) -> None:
    assert amounts(SMALL, 1e9, wish(corpus_bytes=22_000)).pretrain == 44_000


def test_a_short_run_has_two_seeds_and_a_long_one_three_in_both_arms(wish: Callable[..., Wish]) -> None:
    short, long = (Config.model_validate(config_values(SMALL, 3e6, wish(minutes))) for minutes in (3, 30))
    for config, seeds in ((short, (1, 2)), (long, (1, 2, 3))):
        for arm in (config.scratch, config.finetune):
            assert (len(arm.learning_rates), arm.seeds) == (3, seeds)
    assert max(long.finetune.learning_rates) < max(long.scratch.learning_rates)


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
@pytest.mark.parametrize("total", [1e4, 1e6, 1e8])
def test_batches_divide_among_the_ranks_whatever_their_number(
    ranks: int, total: float, wish: Callable[..., Wish]
) -> None:
    config = Config.model_validate(config_values(SMALL, total, wish(ranks=ranks)))
    for section in (config.pretrain, config.scratch, config.finetune):
        assert section.batch_tokens % (ranks * 256 * section.micro_batch) == 0
    assert config.pretrain.tokens % config.pretrain.batch_tokens == 0


def test_a_corpus_is_cut_to_what_pretraining_has_time_for(wish: Callable[..., Wish]) -> None:
    values = config_values(SMALL, 30e6, wish(corpus_bytes=1e12))
    trained = values["pretrain"]["tokens"] * 2.0
    assert 1.5 * trained < values["corpus"]["max_bytes"] < 1.6 * trained + 300_000
    assert "max_bytes" not in config_values(SMALL, 1e6, wish(corpus_bytes=300_000))["corpus"]


def test_each_source_may_give_a_whole_book_even_in_a_short_run(wish: Callable[..., Wish]) -> None:
    three = tuple({"path": f"{number}/*.txt"} for number in range(3))
    assert config_values(SMALL, 1e5, wish(corpus_bytes=1e12, sources=three))["corpus"]["max_bytes"] == 15_000_000


def test_a_batch_grows_with_the_root_of_the_training(wish: Callable[..., Wish]) -> None:
    batches = [config_values(SMALL, total, wish())["pretrain"]["batch_tokens"] for total in (1.34e6, 5.4e6, 21.4e6)]
    assert batches == [2048, 4096, 8192]  # three eighths of the total are pretraining: 0.5, 2 and 8 million
