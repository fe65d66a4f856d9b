"""What one training comes to: tokens, epochs over its own text, tokens for each parameter."""

from pipeline.graph.expected_texts import ExpectedTexts
from pipeline.graph.planned_training import PlannedTraining
from pipeline.graph.stages import nodes_of


def planned(config, stage, shards, **texts):
    node = next(node for node in nodes_of(config) if node.name == stage)
    shape = config.model.shape(4096)
    return PlannedTraining.of(node, shape, ExpectedTexts(shards, counted=True, **texts), ranks=1)


def test_epochs_are_over_the_text_of_the_stage(config, shards):
    made = config(pretrain={"tokens": "20M"}, scratch={"max_steps": 100})
    pretrain = planned(made, "pretrain", shards(corpus=5_000_000))
    assert (pretrain.tokens, pretrain.epochs) == (2441 * 8192, 2441 * 8192 / 5_000_000)
    scratch = planned(made, "scratch", shards(train=200_000))
    assert (scratch.tokens, scratch.epochs) == (819_200, 819_200 / 200_000)
    assert scratch.tokens_per_parameter == 819_200 / scratch.parameters


def test_a_short_text_makes_an_arm_see_less_and_pretraining_take_more_steps(config, shards):
    scratch = planned(config(scratch={"max_steps": 100}), "scratch", shards(train=5 * 256 + 1))
    assert (scratch.section.batch_tokens, scratch.tokens) == (1024, 100 * 1024)
    assert scratch.notes[0].startswith("the target's training split has 5 samples of 256 tokens")
    pretrain = planned(config(pretrain={"tokens": 81_920}), "pretrain", shards(corpus=5 * 256 + 1))
    assert (pretrain.section.steps, pretrain.tokens) == (80, 81_920)


def test_a_text_of_unknown_length_has_no_epochs_and_shrinks_no_batch(config, shards):
    unknown = planned(config(), "pretrain", shards(corpus=0), knows_corpus=False)
    assert (unknown.epochs, unknown.section.batch_tokens, unknown.notes) == (None, 8192, ())


def test_a_text_that_is_too_short_is_a_note(config, shards):
    (note,) = planned(config(), "scratch", shards(train=100)).notes
    assert note.startswith("The target's training split has 100 tokens, less than 257. Use model.context=64")
