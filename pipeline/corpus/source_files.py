"""The files of one source while its corpus is built: its parts, and drafts that a restarted stage continues from.

    train/SS-NNNNN.jsonl.zst, validation/SS-NNNNN.jsonl.zst    parts, `parts.py`
    drafts/SS.json                                             counts of a finished source
    drafts/SS.jsonl                                            what the source set aside

The counts are written last, so a source with counts is finished. Once every source is, `publish_set_aside` joins what
they set aside to set_aside.jsonl and deletes the drafts.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.corpus.parts import Document, PartWriter, part_paths, read_part, remove_parts
from pipeline.corpus.source_counts import SourceCounts
from pipeline.corpus.splits import CORPUS_SPLITS

DRAFTS = "drafts"
SET_ASIDE = "set_aside.jsonl"


@dataclass(frozen=True)
class SourceFiles:
    """The files of source number `index` below the folder of a corpus artifact."""

    corpus: Path
    index: int

    @property
    def counts(self) -> Path:
        return self.corpus / DRAFTS / f"{self.index:02d}.json"

    @property
    def set_aside(self) -> Path:
        return self.corpus / DRAFTS / f"{self.index:02d}.jsonl"

    def finished_counts(self) -> SourceCounts | None:
        """The counts that an earlier start of the stage left, None if the source is not finished."""
        return SourceCounts.load(self.counts) if self.counts.exists() else None

    def documents(self) -> Iterator[Document]:
        """The documents of the source's parts. Raises DataError if a part is damaged."""
        for split in CORPUS_SPLITS:
            for part in part_paths(self.corpus, split, self.index):
                yield from read_part(part)

    def part_writers(self) -> dict[str, PartWriter]:
        """A writer per split, after whatever an interrupted start left of the source is deleted."""
        for split in CORPUS_SPLITS:
            remove_parts(self.corpus, split, self.index)
        return {split: PartWriter(self.corpus / split, self.index) for split in CORPUS_SPLITS}


def publish_set_aside(corpus: Path, num_sources: int) -> None:
    """Join what all sources set aside, in their order, and delete the drafts."""
    draft = corpus / DRAFTS / SET_ASIDE
    with draft.open("wb") as joined:
        for index in range(num_sources):
            with SourceFiles(corpus, index).set_aside.open("rb") as piece:
                shutil.copyfileobj(piece, joined)
    draft.replace(corpus / SET_ASIDE)
    # Last: a stage that is killed before this finds every source finished, and publishes again. The counts go first,
    # so that one killed while it deletes never finds a source finished whose set-aside lines are gone.
    for index in range(num_sources):
        SourceFiles(corpus, index).counts.unlink(missing_ok=True)
    shutil.rmtree(corpus / DRAFTS)
