"""How many tokens the texts of a run have: counted once there are shards, before that forecast from their bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.config.schema import Config
from pipeline.config.text_sections import TokenizerSection
from pipeline.graph.stage_counts import ShardsCounts, TextTotals
from pipeline.inputs.outside import Outside, OutsideText

# English text by the size of a byte-level BPE's vocabulary: plays under a tokenizer that was trained on 4 MB of them.
# Between two sizes the logarithm of the vocabulary decides.
BYTES_PER_TOKEN = {256: 1.0, 512: 2.0, 1024: 2.5, 2048: 3.0, 4096: 3.4, 8192: 3.7, 16_384: 4.0, 65_536: 4.3}
PACKED = (".zst", ".gz", ".parquet")
UNPACKED = 3.7  # times as large as packed: English text with zstd's default level
TINY_SHAKESPEARE_BYTES = 1_115_394
LANGUAGE_REFERENCE_BYTES = 465_000  # Python's, which stands in for a target that is not found
# Where a share of the documents is less than the first, passages up to the second are held out (corpus/held_out.py).
ENOUGH_BYTES, ENOUGH_SHARE = 16_000, 0.04
PASSAGE_BYTES, PASSAGE_SHARE = 256_000, 0.1


@dataclass(frozen=True)
class ExpectedTexts:
    """The texts of a run as their shards hold them, or will. Where nothing is known of a text, its totals are zero."""

    shards: ShardsCounts
    counted: bool  # not forecast
    knows_corpus: bool = True
    knows_target: bool = True

    @classmethod
    def of(cls, config: Config, outside: Outside) -> ExpectedTexts:
        """A forecast from the files that the run reads, before there are shards."""
        return cls.of_sizes(config, corpus_bytes(config, outside), target_bytes(config, outside))

    @classmethod
    def of_sizes(cls, config: Config, corpus: Mapping[str, int | None], target: int | None) -> ExpectedTexts:
        """A forecast from bytes of text: of each source of the corpus by name, and of the target."""
        known = {name: size for name, size in corpus.items() if size is not None}
        rate = bytes_per_token(config.tokenizer)
        total, section, size = sum(known.values()), config.target, target or 0
        held_out = _held_out_bytes(total, config.corpus.validation)
        kept = 1 - held_out / total if total else 0.0
        counts = ShardsCounts(
            target_train=_totals(size * (1 - section.validation - section.selection), rate),
            target_selection=_totals(size * section.selection, rate),
            target_validation=_totals(size * section.validation, rate),
            target_refit=_totals(size * (1 - section.validation), rate),
            corpus_train=_totals(total * kept, rate),
            corpus_validation=_totals(held_out, rate),
            sources={name: _totals(size * kept, rate) for name, size in known.items()},
            val_ngrams_left_in_shards=None,
        )
        return cls(counts, counted=False, knows_corpus=len(known) == len(corpus), knows_target=target is not None)

    def knows(self, stage: str) -> bool:
        """Whether the size of the text that a training stage trains on is known."""
        return self.knows_corpus if stage == "pretrain" else self.knows_target

    @property
    def corpus_bytes(self) -> int | None:
        """All text of the corpus, UTF-8; None where only the network knows."""
        return self.shards.corpus_train.bytes + self.shards.corpus_validation.bytes if self.knows_corpus else None


def bytes_per_token(tokenizer: TokenizerSection) -> float:
    """UTF-8 bytes of English text that a token stands for."""
    if tokenizer.kind == "char":
        return 1.0
    sizes = list(BYTES_PER_TOKEN)
    size = min(max(tokenizer.vocab_size, sizes[0]), sizes[-1])
    above = next(at for at, known in enumerate(sizes) if known >= size)
    low, high = sizes[max(above - 1, 0)], sizes[above]
    share = math.log(size / low) / math.log(high / low) if high > low else 0.0
    return BYTES_PER_TOKEN[low] + share * (BYTES_PER_TOKEN[high] - BYTES_PER_TOKEN[low])


def corpus_bytes(config: Config, outside: Outside) -> dict[str, int | None]:
    """Upper bound of the text that each source of the corpus gives, UTF-8; None if it is not on this machine."""
    texts = outside.texts.get("corpus", {})
    if not texts and not config.corpus.sources:
        return {}
    limits = {source.name: source.max_bytes for source in config.corpus.sources}
    sizes = {name: _least(limits.get(name), _text_bytes(texts.get(name))) for name in (texts or limits)}
    known = [size for size in sizes.values() if size is not None]
    whole = config.corpus.max_bytes
    if whole is None or (len(known) == len(sizes) and sum(known) <= whole):
        return sizes
    # Sources share the limit evenly; what a small one leaves goes to the others.
    shares = _shared(whole, {name: size if size is not None else whole for name, size in sizes.items()})
    return dict(shares)


def target_bytes(config: Config, outside: Outside) -> int | None:
    """Bytes of the target's text; None if it is not on this machine."""
    if config.target.name == "tiny-shakespeare":
        return TINY_SHAKESPEARE_BYTES
    text = outside.texts.get("target", {}).get("target")
    return LANGUAGE_REFERENCE_BYTES if text is not None and text.kind == "installed" else _text_bytes(text)


def _text_bytes(text: OutsideText | None) -> int | None:
    if text is None or not text.files:
        return None
    return int(sum(file.bytes * (UNPACKED if file.name.endswith(PACKED) else 1) for file in text.files))


def _least(*sizes: int | None) -> int | None:
    return min((size for size in sizes if size is not None), default=None)


def _shared(whole: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """How much of `whole` each may fill if all share it evenly, and the small ones leave their rest to the others."""
    shares: dict[str, int] = {}
    left = whole
    for rank, name in enumerate(sorted(sizes, key=sizes.__getitem__)):
        shares[name] = min(sizes[name], left // (len(sizes) - rank))
        left -= shares[name]
    return {name: shares[name] for name in sizes}


def _held_out_bytes(total: int, share: float) -> float:
    if share == 0 or total * share >= min(ENOUGH_BYTES, ENOUGH_SHARE * total):
        return total * share
    return min(PASSAGE_BYTES, PASSAGE_SHARE * total)


def _totals(size: float, rate: float) -> TextTotals:
    # Each split of the target is a document; how many the corpus has is not known before it is read.
    return TextTotals(documents=0, tokens=round(size / rate), bytes=int(size))
