"""Counts of the corpus: every record that came in from a source, and what became of it."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field as attribute
from pathlib import Path

from pipeline.graph.stage_counts import Contamination, CorpusCounts, DamagedFile, HeldOut, SourceProvenance
from pipeline.runtime.files import write_text

MAX_HINTS, MAX_PLACES = 100, 3


@dataclass
class SourceCounts:
    """Counts of one source; documents_in == documents + sum of dropped. Damage of a file counts as one record in.

    `hints` are what was there in the place of what was looked for, by the reason of the loss: hint -> in how many
    records, and its largest weight. `places` are the first files and lines of each reason.
    """

    # Mutable, unlike the records of manifests: it is counted up document by document.
    name: str
    license: str
    revision: str | None
    field: str = "text"
    files: int = 0  # that gave a record, or damage
    files_found: int = 0  # that the path matched, those that cannot be read included
    documents_in: int = 0
    documents: int = 0
    bytes: int = 0  # of kept text, UTF-8
    validation_documents: int = 0
    validation_bytes: int = 0
    contaminated_bytes: int = 0
    lost_bytes: int = 0  # of damaged files, as stored, where it is known
    longest_too_short: int = 0  # characters
    dropped: dict[str, int] = attribute(default_factory=dict)  # by reason
    damaged_files: list[dict[str, str]] = attribute(default_factory=list)
    hints: dict[str, dict[str, list[int]]] = attribute(default_factory=dict)
    places: dict[str, list[str]] = attribute(default_factory=dict)

    def count_kept(self, text_bytes: int, *, validation: bool) -> None:
        self.documents_in += 1
        self.documents += 1
        self.bytes += text_bytes
        self.validation_documents += validation
        self.validation_bytes += text_bytes * validation

    def count_dropped(self, reason: str) -> None:
        self.documents_in += 1
        self.dropped[reason] = self.dropped.get(reason, 0) + 1

    def count_hints(self, reason: str, hints: Sequence[tuple[str, int]]) -> None:
        known = self.hints.setdefault(reason, {})
        for hint, weight in hints:
            if hint in known or len(known) < MAX_HINTS:
                count, heaviest = known.get(hint, [0, 0])
                known[hint] = [count + 1, max(heaviest, weight)]

    def note_place(self, reason: str, place: str) -> None:
        places = self.places.setdefault(reason, [])
        if len(places) < MAX_PLACES:
            places.append(place)

    def save(self, path: Path) -> None:
        write_text(path, json.dumps(dataclasses.asdict(self)))

    @staticmethod
    def load(path: Path) -> SourceCounts:
        return SourceCounts(**json.loads(path.read_bytes()))


def corpus_counts(
    sources: Sequence[SourceCounts], origin: str, contamination: Contamination, held_out: HeldOut | None = None
) -> CorpusCounts:
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
        held_out=held_out,
    )


def _provenance(source: SourceCounts) -> SourceProvenance:
    return SourceProvenance(
        name=source.name,
        license=source.license,
        revision=source.revision,
        documents=source.documents,
        bytes=source.bytes,
        files=source.files,
        files_found=max(source.files_found, source.files),
        documents_in=source.documents_in,
        dropped=dict(sorted(source.dropped.items())),
    )
