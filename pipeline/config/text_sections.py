"""The keys about text: the target, the corpus and its sources, the tokenizer, the shards."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from pipeline.config.encoding import Encoding
from pipeline.config.quantities import (
    Bytes,
    Count,
    ModelSize,
    NgramWords,
    PositiveReal,
    ProperShare,
    Seed,
    Share,
    ShareBelowOne,
)
from pipeline.config.section import Section, added_later, address, not_fingerprinted
from pipeline.config.source_names import distinct, name_of_source

MIN_BPE_VOCABULARY = 257  # every byte, and end-of-text


class TargetSection(Section):
    """The text whose validation loss is reported. Its origin is exactly one of `name`, `path` or `hub`.

    It is one text; or several documents, where a path matches several files or files of records, or of a hub dataset.
    """

    name: Literal["tiny-shakespeare"] | None = None
    path: str | None = address()
    hub: str | None = address()
    subset: str | None = None
    split: str = "train"
    revision: str = address("main")
    field: str = "text"
    # Of text that has no byte-order mark and is not valid UTF-8, such as cp1252. docs/decisions/encodings.md
    encoding: Encoding = added_later(None)
    validation: ProperShare = 0.1  # of the characters, at the end: scored by the report, never trained or chosen on
    # Of the characters, in stretches spread over what is before that split: chooses learning rate and stopping.
    selection: ProperShare = 0.05
    # For the demo: use text that every installation has when the target cannot be found.
    fallback: bool = not_fingerprinted(False)

    @model_validator(mode="after")
    def _one_origin(self) -> TargetSection:
        if sum(origin is not None for origin in (self.name, self.path, self.hub)) != 1:
            raise ValueError("give exactly one of name, path or hub")
        if self.encoding and self.hub is not None:
            raise ValueError("encoding is for a file; the rows of a hub dataset are text already")
        return self

    @model_validator(mode="after")
    def _something_to_train_on(self) -> TargetSection:
        if self.selection + self.validation >= 1:
            raise ValueError(f"selection {self.selection} and validation {self.validation} leave nothing to train on")
        return self


class SourceSection(Section):
    """A source of corpus text: exactly one of `path` (file or glob), `url` (https, one file) or `hub` (dataset id)."""

    name: str = ""
    path: str | None = address()
    url: str | None = address()
    hub: str | None = address()
    subset: str | None = None
    split: str = "train"
    revision: str = address("main")
    field: str = "text"
    # Of text that has no byte-order mark and is not valid UTF-8, such as cp1252. docs/decisions/encodings.md
    encoding: Encoding = added_later(None)
    license: str = "unknown"
    max_bytes: Bytes | None = None  # of kept text, UTF-8
    # How often the source's samples appear in one epoch of pretraining; 0.5 shows half of them. It changes no text, so
    # it is fingerprinted with pretraining (`graph/stages.py`) and not with the corpus.
    weight: PositiveReal = not_fingerprinted(1.0)

    @model_validator(mode="before")
    @classmethod
    def _named_after_origin(cls, values: Any) -> Any:
        return {"name": name_of_source(values), **values} if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _one_origin(self) -> SourceSection:
        origins = [origin for origin in (self.path, self.url, self.hub) if origin is not None]
        if len(origins) != 1:
            raise ValueError("give exactly one of path, url or hub")
        if self.encoding and self.hub is not None:
            raise ValueError("encoding is for files; the rows of a hub dataset are text already")
        return self


class DecontaminateSection(Section):
    ngram_words: NgramWords = 13


class CorpusSection(Section):
    sources: tuple[SourceSection, ...] = ()
    decontaminate: DecontaminateSection | Literal[False] = DecontaminateSection()
    validation: ShareBelowOne = 0.01  # of the documents, chosen by hash
    min_characters: Count = 200  # shorter documents are dropped, and counted
    # Of kept text over all sources. They share it evenly; what a small source leaves unused goes to the others.
    max_bytes: Bytes | None = None
    # The share of a source's documents or files that may be lost (damaged, unreadable, not text) before it is refused.
    max_lost: Share = not_fingerprinted(0.05)
    seed: Seed = 0
    # For the demo: use docstrings of the installed packages when a source cannot be found.
    fallback: bool = not_fingerprinted(False)

    @model_validator(mode="before")
    @classmethod
    def _distinct_default_names(cls, values: Any) -> Any:
        sources = values.get("sources") if isinstance(values, dict) else None
        if not isinstance(sources, list | tuple):
            return values
        # Two patterns may end alike. Names that somebody wrote are left as they are, and refused if they repeat.
        unnamed = [source for source in sources if isinstance(source, dict) and not source.get("name")]
        written = [source["name"] for source in sources if isinstance(source, dict) and source.get("name")]
        names = iter(distinct(map(name_of_source, unnamed), written))
        named = [
            {**source, "name": next(names)} if isinstance(source, dict) and not source.get("name") else source
            for source in sources
        ]
        return {**values, "sources": named}

    @model_validator(mode="after")
    def _distinct_names(self) -> CorpusSection:
        names = [source.name for source in self.sources]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"source name {repeated[0]!r} appears twice; give each source its own name")
        return self


class TokenizerSection(Section):
    kind: Literal["bpe", "char"] = "bpe"
    vocab_size: ModelSize = 4096
    sample_bytes: Bytes = 50_000_000
    seed: Seed = 0

    @model_validator(mode="after")
    def _holds_every_byte(self) -> TokenizerSection:
        if self.kind == "bpe" and self.vocab_size < MIN_BPE_VOCABULARY:
            raise ValueError(
                f"vocab_size {self.vocab_size} does not hold every byte and end-of-text; bpe needs {MIN_BPE_VOCABULARY}"
            )
        return self


class ShardsSection(Section):
    shard_bytes: Bytes = 64_000_000
