"""Counts of the corpus: every record that came in from a source, and what became of it."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.graph.stage_counts import Contamination, CorpusCounts, DamagedFile, SourceProvenance
from pipeline.runtime.files import write_text


@dataclass
class SourceCounts:
    """Counts of one source; documents_in == documents + sum of dropped. Damage of a file counts as one record in."""

    # Mutable, unlike the records of manifests: it is counted up document by document.
    name: str
    license: str
    revision: str | None
    files: int = 0
    documents_in: int = 0
    documents: int = 0
    bytes: int = 0  # of kept text, UTF-8
    validation_documents: int = 0
    contaminated_bytes: int = 0
    dropped: dict[str, int] = field(default_factory=dict)  # by reason
    damaged_files: list[dict[str, str]] = field(default_factory=list)

    def count_kept(self, text_bytes: int, *, validation: bool) -> None:
        self.documents_in += 1
        self.documents += 1
        self.bytes += text_bytes
        self.validation_documents += validation

    def count_dropped(self, reason: str) -> None:
        self.documents_in += 1
        self.dropped[reason] = self.dropped.get(reason, 0) + 1

    def save(self, path: Path) -> None:
        write_text(path, json.dumps(dataclasses.asdict(self)))

    @staticmethod
    def load(path: Path) -> SourceCounts:
        return SourceCounts(**json.loads(path.read_bytes()))


def corpus_counts(sources: Sequence[SourceCounts], origin: str, contamination: Contamination) -> CorpusCounts:
    """Counts of the corpus from those of its sources, in their order. `origin` is "sources" or "installed text"."""
    dropped: Counter[str] = Counter()
    for source in sources:
        dropped.update(source.dropped)
    return CorpusCounts(
        sources=tuple(_provenance(source) for source in sources),
        documents_in=sum(source.documents_in for source in sources),
        documents_kept=sum(source.documents for source in sources),
        dropped=dict(sorted(dropped.items())),
        bytes_kept=sum(source.bytes for source in sources),
        validation_documents=sum(source.validation_documents for source in sources),
        damaged_files=tuple(DamagedFile(**damage) for source in sources for damage in source.damaged_files),
        origin=origin,
        contamination=contamination,
    )


def _provenance(source: SourceCounts) -> SourceProvenance:
    return SourceProvenance(
        name=source.name,
        license=source.license,
        revision=source.revision,
        documents=source.documents,
        bytes=source.bytes,
        files=source.files,
    )
