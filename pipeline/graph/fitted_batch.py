"""The batch that a text is long enough for: what the config asks for, or less where it left the batch at its default.

An epoch must fill a batch: a step that shows a sample twice would not be the step that was asked for. Which batch
follows depends on the config's values and the text alone, never on the number of ranks, and not on who wrote a value
either: a default that is written out has the same fingerprint as one that is not, so it must train the same
(docs/decisions/batches-of-short-texts.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from pipeline.config.training_sections import PretrainSection, TrainingSection
from pipeline.errors import ConfigError
from pipeline.graph.stage_counts import ShardsCounts
from pipeline.runtime.formatting import counted

SectionKind = TypeVar("SectionKind", bound=TrainingSection)


@dataclass(frozen=True)
class TrainingText:
    """What a stage trains on: the tokens of each stream, and how often an epoch shows its samples."""

    name: str  # as messages call it
    streams: tuple[tuple[int, float], ...]
    held_out_tokens: int  # that pretraining is evaluated on; an arm's selection split

    @classmethod
    def of(cls, stage: str, shards: ShardsCounts, weights: Mapping[str, float]) -> TrainingText:
        """The text of pretrain, scratch or finetune; `weights` are those of the corpus' sources, 1 where not given."""
        if stage != "pretrain":
            streams = ((shards.target_train.tokens, 1.0),)
            return cls("the target's training split", streams, shards.target_selection.tokens)
        sources = tuple((totals.tokens, weights.get(name, 1.0)) for name, totals in shards.sources.items())
        return cls("the corpus", sources, shards.corpus_validation.tokens)

    @property
    def tokens(self) -> int:
        return sum(tokens for tokens, _ in self.streams)

    def num_samples(self, context: int) -> int:
        """Samples of one epoch, as `tokens.batches.Mixture` counts them."""
        return sum(round(weight * (max(tokens - 1, 0) // context)) for tokens, weight in self.streams)


@dataclass(frozen=True)
class FittedBatch:
    """`batch_tokens` that the text can fill, and what to tell the operator if they are not those of the config."""

    batch_tokens: int
    note: str = ""

    @classmethod
    def of(cls, stage: str, section: TrainingSection, text: TrainingText, *, context: int, ranks: int) -> FittedBatch:
        """Raises ConfigError, with values that do work, if the text has too few samples and nothing may shrink."""
        samples, asked = text.num_samples(context), section.batch_tokens // context
        if asked <= samples:
            return cls(section.batch_tokens)
        fitted = _halved(asked, samples)
        if (fitted if is_default(section) else samples) < ranks:
            raise _too_short(stage, section, text, context=context, ranks=ranks)
        has = f"{text.name} has {counted(samples, 'sample')} of {context:,} tokens"
        if not is_default(section):
            largest = _largest_batch(section, samples, ranks) * context
            raise ConfigError(
                f"{stage}.batch_tokens {section.batch_tokens:,} asks for {asked:,} samples a batch, but {has}.",
                remedy=f"Use {stage}.batch_tokens={largest}, or give more text.",
            )
        tokens = fitted * context
        return cls(tokens, f"{has}: batches of {tokens:,} tokens instead of {section.batch_tokens:,}.")


def is_default(section: TrainingSection) -> bool:
    """Whether `batch_tokens` has its default value."""
    return bool(section.batch_tokens == type(section).model_fields["batch_tokens"].default)


def fitted_section(
    stage: str, section: SectionKind, text: TrainingText, *, context: int, ranks: int
) -> tuple[SectionKind, list[str]]:
    """The section with what the text is enough for, and a line for each value that differs.

    Raises ConfigError as `FittedBatch.of` does.
    """
    batch = FittedBatch.of(stage, section, text, context=context, ranks=ranks)
    notes = [batch.note] if batch.note else []
    if isinstance(section, PretrainSection):
        notes += _held_out_notes(section, text)
    return section.model_copy(update={"batch_tokens": batch.batch_tokens}), notes


def _held_out_notes(section: PretrainSection, text: TrainingText) -> list[str]:
    """What is less than asked for on the side that pretraining is evaluated on, which never stops it."""
    if text.held_out_tokens < 2:
        return ["the corpus has no held-out part: training goes without a validation loss."]
    if section.evaluate_tokens <= text.held_out_tokens:
        return []
    return [
        f"the held-out part of the corpus has {text.held_out_tokens:,} tokens, less than evaluate_tokens "
        f"{section.evaluate_tokens:,}: all of it is scored."
    ]


def _halved(asked: int, samples: int) -> int:
    """`asked` halved until it is at most `samples`; 0 if there are none."""
    # Halved, because the default is a power of two: what is left divides among ranks as it did.
    return asked >> math.ceil(math.log2(asked / samples)) if samples else 0


def _largest_batch(section: TrainingSection, samples: int, ranks: int) -> int:
    """The most samples, up to `samples`, that divide into ranks and micro-batches."""
    share = samples // ranks
    micro = min(max(section.micro_batch, 1), share)
    return share // micro * micro * ranks


def _too_short(stage: str, section: TrainingSection, text: TrainingText, *, context: int, ranks: int) -> ConfigError:
    """The refusal of a text that has not one sample for each rank, with a context for which it has."""
    samples, default = text.num_samples(context), is_default(section)
    contexts = [size for size in (2**power for power in range(16)) if size < context]
    shorter = next((size for size in reversed(contexts) if text.num_samples(size) >= ranks), None)
    cures = []
    # A batch that the config sets itself would be refused next, so its cure comes along.
    if samples:
        batch = _largest_batch(section, samples, 1) * context
        cures.append(
            f"--ranks {_halved(section.batch_tokens // context, samples)}"
            if default
            else f"--ranks 1 with {stage}.batch_tokens={batch}"
        )
    if shorter:
        batch = _largest_batch(section, text.num_samples(shorter), ranks) * shorter
        cures.append(f"model.context={shorter}" + ("" if default else f" with {stage}.batch_tokens={batch}"))
    few = f"less than {context + 1:,}"
    if samples:
        few = f"{counted(samples, 'sample')} of {context:,} tokens for {counted(ranks, 'rank')}"
    return ConfigError(
        f"{text.name[0].upper()}{text.name[1:]} has {text.tokens:,} tokens, {few}.",
        remedy=f"Use {', or '.join(cures)}, or give more text." if cures else "Give more text.",
    )
