"""What each stage counts, as the manifest of its artifact keeps it: one typed record a stage.

A stage returns its record; whoever reads the artifact asks for it by type, `artifact.counts_as(CorpusCounts)`. Fields
that came later have defaults, so that manifests written before them still read.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0)]  # a negative one was not counted by us


class CountsRecord(BaseModel):
    """A frozen part of a manifest's counts. Unknown fields are ignored: a newer version may have written them."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class StageCounts(CountsRecord):
    """What every stage may count. A stage that is not trained by ranks leaves the defaults."""

    world_size: Count = 1
    rank_seconds: float | None = None  # wall time times ranks, over all attempts of the last start
    peak_memory_bytes: Count | None = None  # of the largest rank
    tokens_per_second: float | None = None
    imported_files: dict[str, str] | None = None  # name -> sha256 of what was imported; None: made here


class TargetCounts(StageCounts):
    """The target text and its splits: train and selection are parts of refit, which validation follows."""

    name: str
    origin: str  # path, FOLIO_DATA, cache, network, hub or installed text
    sha256: str
    characters: Count
    bytes: Count
    train_characters: Count
    train_bytes: Count
    selection_characters: Count
    selection_bytes: Count
    validation_characters: Count
    validation_bytes: Count
    refit_characters: Count = 0
    refit_bytes: Count = 0
    documents: Count = 1
    selection_stretches: tuple[tuple[Count, Count], ...] = ()  # first character of the text, and the one after the last


class SourceProvenance(CountsRecord):
    """One source of the corpus and what was kept of it."""

    name: str
    license: str
    revision: str | None
    documents: Count
    bytes: Count
    files: Count  # that gave a document, or were damaged
    files_found: Count = 0  # that its path matched; what max_bytes left unread is among them
    documents_in: Count = 0  # damage of a file counts as one
    dropped: dict[str, Count] = {}  # by reason; documents_in = documents + these


class DamagedFile(CountsRecord):
    source: str
    file: str
    reason: str


class Contamination(CountsRecord):
    """What decontamination removed; n-grams are distinct ones of the target's validation text."""

    ngram_words: Count | None  # None: decontamination was switched off
    documents_removed: Count
    bytes_removed: Count
    val_ngrams_total: Count
    val_ngrams_left: Count  # in the finished parts, counted again


class HeldOut(CountsRecord):
    """The corpus' validation split: whole documents drawn by hash, or passages at the end of documents."""

    by: Literal["documents", "passages", "nothing"]  # nothing: corpus.validation is 0
    documents: Count  # or passages
    bytes: Count
    gap_bytes: Count = 0  # of text between passages and the training text before them, in neither split


class CorpusCounts(StageCounts):
    """Documents in = kept + dropped, by reason; damage of a file counts as one document in.

    `bytes_kept` is the text of both splits: what is between a passage and the training text is not in it.
    """

    sources: tuple[SourceProvenance, ...]
    documents_in: Count
    documents_kept: Count
    dropped: dict[str, Count]
    bytes_kept: Count
    validation_documents: Count
    damaged_files: tuple[DamagedFile, ...]
    origin: str  # sources or installed text
    contamination: Contamination
    held_out: HeldOut | None = None


class TokenizerCounts(StageCounts):
    kind: Literal["bpe", "char"]
    vocab_size: Count
    sha256: str
    sample_bytes: Count | None = None  # None: imported
    bytes_per_token: dict[str, float] = {}  # by source


class TextTotals(CountsRecord):
    """Documents, tokens (end-of-text ids included) and UTF-8 bytes of some shards."""

    documents: Count
    tokens: Count
    bytes: Count


class ShardsCounts(StageCounts):
    target_train: TextTotals
    target_selection: TextTotals
    target_validation: TextTotals
    corpus_train: TextTotals
    corpus_validation: TextTotals
    sources: dict[str, TextTotals]
    val_ngrams_left_in_shards: Count | None  # None: no corpus
    target_refit: TextTotals = TextTotals(documents=0, tokens=0, bytes=0)


class PretrainedBranch(CountsRecord):
    """A branch of pretraining, brought to its own end."""

    branch: str
    steps: Count
    tokens: Count
    val_nats_per_token: float | None


class PretrainCounts(StageCounts):
    """A pretraining; losses in nats per token. `tokens` and `steps` are those of the whole, branches not counted."""

    tokens: Count
    steps: Count
    batch_tokens: Count  # of the batches trained on, which a small corpus makes smaller than the config asks for
    train_nats_per_token: float | None  # mean of the last steps
    val_nats_per_token: float | None  # of the corpus' validation split, at the end; None if it has none
    held_out_tokens: Count | None = None  # of that split, scored at each evaluation
    skipped_steps: Count
    parameters: Count
    branches: tuple[PretrainedBranch, ...] = ()


class ImportedCounts(StageCounts):
    """Weights that were imported in the place of pretraining."""

    parameters: Count
    largest_logit_difference: float


class TrialSummary(CountsRecord):
    """One trial of an arm in brief; losses are None where no evaluation gave a finite one."""

    learning_rate: float
    seed: Count
    best_selection_nats_per_token: float | None
    best_step: Count | None
    steps: Count
    diverged: bool
    refit: bool = False


class ArmTotals(CountsRecord):
    """The trainings of an arm: the grid of rates on the first seed, and what is reported, on every seed."""

    learning_rate: float
    chosen_step: Count | None = None  # at which the best of the grid was best
    grid: tuple[TrialSummary, ...]
    seeds: tuple[int, ...]
    trials: tuple[TrialSummary, ...]  # what is reported
    tokens: Count
    tokens_per_second: float | None = None  # median over the trials
    parameters: Count


class FinetunedBranch(ArmTotals):
    """The same of an arm that began from a branch of pretraining. Its ranks are those of the whole arm."""

    branch: str


class ArmCounts(ArmTotals, StageCounts):
    branches: tuple[FinetunedBranch, ...] = ()


class ReportCounts(StageCounts):
    """The report's main figures, in bits per byte; None where there is no such arm or no gain."""

    gain_bits_per_byte: float | None
    ci95: tuple[float, float] | None
    scratch_bits_per_byte: float | None
    zero_shot_bits_per_byte: float | None
    finetune_bits_per_byte: float | None
    html: str
