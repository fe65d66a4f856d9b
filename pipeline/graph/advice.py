"""What makes no sense in a plan, one sentence each with its cure: texts seen too often, models too large for them."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pipeline.config.schema import Config
from pipeline.graph.expected_texts import ExpectedTexts
from pipeline.graph.planned_training import PlannedTraining
from pipeline.runtime.formatting import counted, readable_count

# Up to here repeated text is worth nearly as much as new text (Muennighoff et al. 2023, arXiv 2305.16264).
USEFUL_EPOCHS = 4
# A text of fewer windows gives an interval of hardly any blocks: it draws at least four (evaluation/intervals.py), and
# at this number a block is five of them.
FEWEST_WINDOWS = 20
LARGEST_HELD_OUT = 0.2  # of the corpus, that a sentence proposes: the rest is what is trained on


def training_advice(name: str, training: PlannedTraining) -> Iterator[str]:
    """Sentences about one stage, which a plan calls `name`."""
    yield from (f"{name}: {note}" for note in training.notes)
    epochs, ratio = training.epochs, training.tokens_per_parameter
    if training.stage == "pretrain" and epochs is not None and epochs > USEFUL_EPOCHS:
        most = USEFUL_EPOCHS * training.text.tokens
        yield (
            f"{name}: the corpus is seen {epochs:,.1f} times; repeated text hardly helps beyond {USEFUL_EPOCHS} times "
            f"(Muennighoff et al. 2023). Set pretrain.tokens to {readable_count(most)} or less, or give more text."
        )
    # Finetuning goes on from a model that is trained already, so few tokens are as it should be.
    if training.stage != "finetune" and ratio < 1:
        # Where the text is seen often enough already, only a smaller model helps.
        enough = epochs is not None and epochs >= USEFUL_EPOCHS
        knob = "pretrain.tokens" if training.stage == "pretrain" else f"{training.stage}.max_steps"
        cure = "Lower" if enough else f"Raise {knob}, or lower"
        yield (
            f"{name}: {ratio:.2g} tokens per parameter are too few for a model of "
            f"{readable_count(training.parameters)} parameters. {cure} model.width or model.layers."
        )


def held_out_advice(config: Config, texts: ExpectedTexts) -> Iterator[str]:
    """Sentences about texts that are too short to be scored: the corpus' held-out part, the target's splits."""
    context, shards = config.model.context, texts.shards
    if texts.knows_corpus and shards.corpus_train.tokens:
        yield from _held_out_of_corpus(config, shards.corpus_validation.tokens, shards.corpus_train.tokens, context)
    windows = math.ceil(max(shards.target_validation.tokens - 1, 0) / context)
    if texts.knows_target and windows < FEWEST_WINDOWS:
        yield (
            f"The target's validation split has {shards.target_validation.tokens:,} tokens, less than {FEWEST_WINDOWS} "
            f"windows of {context:,}: the interval of the gain will be wide. Give a longer target, or raise "
            f"target.validation."
        )


def _held_out_of_corpus(config: Config, held_out: int, trained: int, context: int) -> Iterator[str]:
    asked, wanted = config.pretrain.evaluate_tokens, FEWEST_WINDOWS * context
    if config.corpus.validation == 0 or min(asked, held_out) >= wanted:
        return  # without a held-out part there is no loss to be sure of, and the config asked for that
    if asked < wanted <= held_out:
        cure = f"Set pretrain.evaluate_tokens to {wanted:,} or more."
    elif wanted / (held_out + trained) <= LARGEST_HELD_OUT:
        share = math.ceil(100 * wanted / (held_out + trained))
        more = f" and pretrain.evaluate_tokens to {wanted:,}" if asked < wanted else ""
        cure = f"Set corpus.validation to {share}%{more}."
    else:
        cure = "Give more text, or lower model.context."
    windows = counted(min(asked, held_out) // context, "window")
    yield (
        f"The held-out part of the corpus makes {windows} of {context:,} tokens; the interval of the "
        f"pretraining gap wants {FEWEST_WINDOWS}. {cure}"
    )
