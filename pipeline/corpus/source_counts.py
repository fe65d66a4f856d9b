"""The ledger of one source: every record that came in, and what became of it."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.runtime.files import write_text


@dataclass
class SourceCounts:
    """Counts of one source; documents_in == documents + sum of dropped. Damage of a file counts as one record in."""

    name: str
    license: str
    revision: str | None
    files: int = 0
    documents_in: int = 0
    documents: int = 0
    bytes: int = 0
    validation_documents: int = 0
    contaminated_bytes: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    damaged_files: list[dict[str, str]] = field(default_factory=list)

    def kept(self, text_bytes: int, *, validation: bool) -> None:
        self.documents_in += 1
        self.documents += 1
        self.bytes += text_bytes
        self.validation_documents += validation

    def rejected(self, reason: str) -> None:
        self.documents_in += 1
        self.dropped[reason] = self.dropped.get(reason, 0) + 1

    def save(self, path: Path) -> None:
        write_text(path, json.dumps(dataclasses.asdict(self)))

    @staticmethod
    def load(path: Path) -> SourceCounts:
        return SourceCounts(**json.loads(path.read_bytes()))


def totals(ledgers: list[SourceCounts]) -> dict[str, Any]:
    """Counts of the corpus from those of its sources."""
    dropped: Counter[str] = Counter()
    for ledger in ledgers:
        dropped.update(ledger.dropped)
    return {
        "sources": [_provenance(ledger) for ledger in ledgers],
        "documents_in": sum(ledger.documents_in for ledger in ledgers),
        "documents_kept": sum(ledger.documents for ledger in ledgers),
        "dropped": dict(sorted(dropped.items())),
        "bytes_kept": sum(ledger.bytes for ledger in ledgers),
        "validation_documents": sum(ledger.validation_documents for ledger in ledgers),
        "damaged_files": [damage for ledger in ledgers for damage in ledger.damaged_files],
    }


def _provenance(ledger: SourceCounts) -> dict[str, Any]:
    kept = {"documents": ledger.documents, "bytes": ledger.bytes, "files": ledger.files}
    return {"name": ledger.name, "license": ledger.license, "revision": ledger.revision, **kept}
