"""What is said of plans that make no sense; a test applies each cure and hears nothing more."""

import re

import pytest

from pipeline.graph.advice import held_out_advice, training_advice
from pipeline.graph.expected_texts import ExpectedTexts
from pipeline.graph.planned_training import PlannedTraining
from pipeline.graph.stages import nodes_of


def said_of(config, stage, counts):
    node = next(node for node in nodes_of(config) if node.name == stage)
    shape, texts = config.model.shape(512), ExpectedTexts(counts, counted=True)
    return list(training_advice(stage, PlannedTraining.of(node, shape, texts, ranks=1)))


def test_more_than_four_epochs_of_the_corpus_is_said_with_the_tokens_that_are_not(config, shards):
    counts = shards(corpus=2_000_000)
    (line,) = said_of(config(pretrain={"tokens": "30M"}), "pretrain", counts)
    assert line.startswith("pretrain: the corpus is seen 15.0 times; repeated text hardly helps beyond 4 times")
    assert "Set pretrain.tokens to 8M or less" in line
    # 8 M tokens are enough for its 4.85 M parameters, too.
    assert said_of(config(pretrain={"tokens": "8M"}), "pretrain", counts) == []


def test_less_than_a_token_per_parameter_is_said_with_both_cures(config, shards):
    (line,) = said_of(config(pretrain={"tokens": "1M"}), "pretrain", shards())
    assert "0.21 tokens per parameter are too few for a model of 4.85M parameters" in line
    assert "Raise pretrain.tokens, or lower model.width or model.layers" in line
    assert said_of(config(pretrain={"tokens": "5M"}), "pretrain", shards()) == []
    assert said_of(config(pretrain={"tokens": "1M"}, model={"layers": 2, "width": 128}), "pretrain", shards()) == []


def test_a_control_that_sees_its_text_often_enough_is_not_told_to_see_it_more_often(config, shards):
    (line,) = said_of(config(scratch={"max_steps": 100}), "scratch", shards(train=100_000))
    assert line.endswith("parameters. Lower model.width or model.layers.")
    assert said_of(config(finetune={"max_steps": 1}), "finetune", shards()) == [], "its model is trained already"


def test_the_batch_of_a_short_text_is_said(config, shards):
    lines = said_of(config(), "scratch", shards(train=5 * 256 + 1))
    assert lines[0].startswith("scratch: the target's training split has 5 samples of 256 tokens: batches of 1,024")


def held_out(config, counts, **texts):
    return list(held_out_advice(config, ExpectedTexts(counts, counted=True, **texts)))


@pytest.mark.parametrize(
    ("pretrain", "held", "total"),
    [
        ({}, 2000, 500_000),
        ({"evaluate_tokens": 1024}, 20_000, 500_000),
        ({"evaluate_tokens": 1024}, 1000, 50_000),
        ({}, 250, 260_000),
    ],
)
def test_a_held_out_part_of_too_few_windows_has_a_cure_that_works(config, shards, pretrain, held, total):
    made = config(pretrain=pretrain)
    (line,) = held_out(made, shards(corpus=total - held, held_out=held))
    assert "the interval of the pretraining gap wants 20" in line
    tokens = re.search(r"pretrain\.evaluate_tokens to ([\d,]+)", line)
    share = re.search(r"corpus\.validation to (\d+)%", line)
    cured = config(pretrain={"evaluate_tokens": int(tokens[1].replace(",", ""))} if tokens else pretrain)
    held = total * int(share[1]) // 100 if share else held
    assert held_out(cured, shards(corpus=total - held, held_out=held)) == []


def test_too_little_text_for_any_share_is_said_so_and_nothing_held_out_was_asked_for(config, shards):
    (line,) = held_out(config(), shards(corpus=5000, held_out=200))
    assert line.endswith("Give more text, or lower model.context.")
    none = config().model_copy(update={"corpus": config().corpus.model_copy(update={"validation": 0.0})})
    assert held_out(none, shards(held_out=0)) == []
    assert held_out(config(), shards(corpus=0, held_out=0), knows_corpus=False) == []


def test_a_short_validation_split_of_the_target_is_said(config, shards):
    (line,) = held_out(config(), shards(validation=450))
    assert line.startswith("The target's validation split has 450 tokens, less than 20 windows of 256")
    assert held_out(config(), shards(validation=19 * 256 + 2)) == []
    assert held_out(config(), shards(validation=0), knows_target=False) == []
