"""The records that `report.json` is made of, in format 1. Names and order of their fields are the file's own.

Format 1 is a public contract: no field is renamed, removed or moved. A new one is named in `came_later`, so that
reports written before it stay valid. A loss is in the unit that its field's name ends with, and in bits per byte where
it says none; a gain likewise.
"""

from __future__ import annotations

from typing import Any

from pipeline.report.report_records import (
    Interval,
    OrLeftOut,
    ReportedDifference,
    ReportedLoss,
    ReportedMean,
    ReportRecord,
    came_later,
)


class ReportedTarget(ReportRecord):
    """The target text: its splits in characters, and the validation split in bytes and in scored tokens.

    Trials are trained on `train` and chosen on `selection`; refits are trained on both, which are the first
    `characters - validation_characters` of the text. The validation text is the rest.
    """

    name: str
    sha256: str
    origin: str  # where the text was found: a path, FOLIO_DATA, a cache, the network, or a stand-in
    characters: int
    train_characters: int
    selection_characters: int
    validation_characters: int
    val_bytes: int  # UTF-8; what bits per byte divide by
    val_tokens: int  # each of them scored once
    # First character of the text, and the one after the last. Reports of the split before have neither.
    selection_stretches: OrLeftOut[tuple[tuple[int, int], ...]] = None
    documents: OrLeftOut[int] = None


class ReportedTrial(ReportRecord):
    """One learning rate of an arm's grid, tried on the first seed; no best step if no evaluation gave a finite loss."""

    learning_rate: float
    seed: int
    best_selection_nats_per_token: float | None
    best_step: int | None
    steps: int  # taken, which patience may have ended early
    diverged: bool


class ReportedRefit(ReportRecord):
    """What the seeds of an arm were trained on, and the trial that chose for them: its best step, among its steps."""

    characters: int
    chosen_step: int
    chosen_of: int


class ReportedArm(ReportRecord):
    """One arm. `steps` and `best_step` are those of the median seed; an arm that was not trained has no seeds.

    Its losses are those of its refits, which end at their best step, or without `refit` of its trials' best steps.
    """

    model_config = came_later("last_step_val_bits_per_byte_ci95", "last_step_val_bits_per_byte_per_seed")
    params: int
    learning_rate: float | None  # the best of the grid, at its peak
    # Of the batches trained on, which a short target makes smaller than the config asks for.
    batch_tokens: OrLeftOut[int] = None
    steps: int
    best_step: int
    seeds: tuple[int, ...]
    # In the order of `seeds`, like every list per seed. Zero-shot has never had them.
    steps_per_seed: OrLeftOut[tuple[int, ...]] = None
    best_step_per_seed: OrLeftOut[tuple[int, ...]] = None
    grid: tuple[ReportedTrial, ...]
    val_bits_per_byte: ReportedLoss
    val_nats_per_token: ReportedLoss
    val_nats_per_char: ReportedLoss
    # One number from the start; what makes it an estimate came later, and a field is never renamed.
    last_step_val_bits_per_byte: float
    last_step_val_bits_per_byte_ci95: Interval
    last_step_val_bits_per_byte_per_seed: tuple[float, ...]
    refit: OrLeftOut[ReportedRefit] = None

    @property
    def last_step(self) -> ReportedMean:
        """The loss with the weights of the last step, in bits per byte."""
        return ReportedMean(mean=self.last_step_val_bits_per_byte, ci95=self.last_step_val_bits_per_byte_ci95)


class ReportedArms(ReportRecord):
    """The arms of the run, in the order in which they are shown; a run that pretrains nothing has `scratch` alone."""

    scratch: ReportedArm
    zero_shot: OrLeftOut[ReportedArm] = None
    finetune: OrLeftOut[ReportedArm] = None

    def by_name(self) -> dict[str, ReportedArm]:
        """The arms that the run has, in order."""
        return self.written()


class ReportedGain(ReportRecord):
    """Scratch loss minus finetune loss, paired by window; it helps if the whole interval lies above zero."""

    bits_per_byte: ReportedDifference
    nats_per_token: ReportedDifference
    nats_per_char: ReportedDifference
    helps: bool


class ReportedReference(ReportRecord):
    """A published loss for the same text, in bits per byte; `low` and `high` are equal where one value was given."""

    name: str
    low: float
    high: float
    note: str  # who published it, and of what model
    differs: OrLeftOut[str] = None  # why the run's losses do not compare with it


class ReportedLeak(ReportRecord):
    """The leak ablation: what decontamination had removed is left in, and `memory` is what the loss falls by."""

    documents_left_in: int
    bytes_left_in: int
    val_ngrams_total: int
    val_ngrams_left_in_shards: int | None
    learning_rate: float  # of finetuning
    zero_shot: ReportedMean
    finetune: ReportedMean
    gain: ReportedMean  # of the leaking model over scratch
    memory: ReportedDifference  # of that gain, the part that comes from the leak


class ReportedRates(ReportRecord):
    """The best learning rate of each arm's grid."""

    scratch: float
    finetune: float


class ReportedSize(ReportRecord):
    """A model of another size on the first seed, or the run's own."""

    name: str
    params: int
    pretraining_flops: float  # floating-point operations
    learning_rates: ReportedRates
    scratch: ReportedMean
    zero_shot: ReportedMean
    finetune: ReportedMean
    gain: ReportedMean


class ReportedRival(ReportRecord):
    """Another model from scratch, by the config keys that it changes; no gain over it if nothing was finetuned."""

    name: str
    changes: dict[str, Any]  # dotted config key -> its value
    params: int
    learning_rate: float
    steps: int
    best_step: int
    seeds: tuple[int, ...]
    steps_per_seed: tuple[int, ...]
    best_step_per_seed: tuple[int, ...]
    grid: tuple[ReportedTrial, ...]
    val_bits_per_byte: ReportedLoss
    last_step_val_bits_per_byte: float
    gain_bits_per_byte: ReportedMean | None
    refit: OrLeftOut[ReportedRefit] = None


class ReportedPretraining(ReportRecord):
    """Losses of the pretrained model on windows that it was trained on and on unseen documents, in nats per token.

    `val_...` and `gap` are null if nothing of the corpus was held out, or less than two windows of it.
    """

    model_config = came_later("train_nats_per_token_ci95", "val_nats_per_token_ci95")
    tokens: int
    steps: int
    train_nats_per_token: float
    train_nats_per_token_ci95: Interval
    val_nats_per_token: float | None
    val_nats_per_token_ci95: Interval | None
    gap: float | None  # val minus train
    gap_ci95: Interval | None
    windows: int  # on each side
    train_documents: int
    validation_documents: int
    # Of the batches trained on, which a small corpus makes smaller than the config asks for.
    batch_tokens: OrLeftOut[int] = None


class ReportedImport(ReportRecord):
    """The files that imported weights were read from: name -> sha256."""

    files: dict[str, str]


class ReportedContamination(ReportRecord):
    """What was removed from the corpus for the target's sake, and the n-grams that the finished shards still hold.

    `ngram_words` is null if decontamination was switched off.
    """

    ngram_words: int | None
    documents_removed: int
    bytes_removed: int
    val_ngrams_total: int  # distinct ones of the validation text
    val_ngrams_left_in_shards: int | None  # of these; null: not counted
    corpus_origin: str


class ReportedControls(ReportRecord):
    """Was the comparison fair? True where a control held; those of a comparison are left out if there is none."""

    same_tokenizer: bool
    same_model: bool
    same_split: bool
    best_step_has_lowest_selection_loss: bool
    best_learning_rate_has_lowest_selection_loss: bool
    selection_text_is_not_validation_text: bool
    same_grid_size: OrLeftOut[bool] = None
    same_number_of_seeds: OrLeftOut[bool] = None
    finetuned_from_this_pretraining: OrLeftOut[bool] = None
    no_validation_ngrams_in_shards: OrLeftOut[bool] = None
    same_windows: bool
    refits_follow_the_best_trial: OrLeftOut[bool] = None

    def by_name(self) -> dict[str, bool]:
        """The controls that were checked, in order, and whether each held."""
        return self.written()


class ReportedCost(ReportRecord):
    """What a stage took: wall time, of which branches; wall time times ranks; memory of its largest process."""

    model_config = came_later("branch_seconds", "ranks")
    seconds: float
    branch_seconds: float
    tokens_per_second: float | None  # null: the stage trains nothing
    ranks: int
    rank_seconds: float
    peak_memory_bytes: int


class ReportedSource(ReportRecord):
    """One source of the corpus and what was kept of it."""

    name: str
    license: str
    revision: str | None
    documents: int
    bytes: int


class ReportedProvenance(ReportRecord):
    """What made these numbers. `fingerprints` are by stage, those of variants as in "leak.corpus"."""

    config: dict[str, Any]  # every default written out, ${VARIABLES} unexpanded
    fingerprints: dict[str, str]
    versions: dict[str, str]
    git_commit: str  # ends in "-dirty" if the checkout had changes of its own
    sources: tuple[ReportedSource, ...]


class ReportedSamples(ReportRecord):
    """What the first seed of each arm writes after the prompt, from the same random numbers."""

    scratch: str | None
    finetune: str | None
    prompt: str
    temperature: float
