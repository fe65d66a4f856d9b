from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.corpus.source_counts import SourceCounts, corpus_counts
from pipeline.graph.stage_counts import Contamination, CorpusCounts, DamagedFile, HeldOut, SourceProvenance

NONE_LEFT = Contamination(ngram_words=13, documents_removed=0, bytes_removed=0, val_ngrams_total=5, val_ngrams_left=0)
HELD_OUT = HeldOut(by="documents", documents=1, bytes=5)


@pytest.fixture
def books() -> SourceCounts:
    counts = SourceCounts("books", "CC0-1.0", revision=None, files=2)
    counts.count_kept(10, validation=False)
    counts.count_kept(5, validation=True)
    counts.count_dropped("too_short")
    counts.count_dropped("truncated_file")
    counts.damaged_files.append({"source": "books", "file": "a.gz", "reason": "truncated_file"})
    return counts


def test_every_record_is_counted_as_kept_or_dropped(books: SourceCounts) -> None:
    assert (books.documents_in, books.documents, books.bytes, books.validation_documents) == (4, 2, 15, 1)
    assert books.validation_bytes == 5
    assert books.dropped == {"too_short": 1, "truncated_file": 1}


def test_counts_come_back_from_their_file(books: SourceCounts, tmp_path: Path) -> None:
    books.save(tmp_path / "00.json")
    assert SourceCounts.load(tmp_path / "00.json") == books


def test_counts_of_the_corpus_are_the_sums_of_its_sources(books: SourceCounts) -> None:
    plays = SourceCounts("plays", "unknown", revision="c0ffee", files=1)
    plays.count_kept(100, validation=False)
    plays.count_dropped("too_short")
    plays.count_dropped("duplicate")
    plays.files_found = 3  # two of which a cap left unread
    assert corpus_counts([books, plays], "sources", NONE_LEFT, HELD_OUT) == CorpusCounts(
        sources=(
            SourceProvenance(
                name="books",
                license="CC0-1.0",
                revision=None,
                documents=2,
                bytes=15,
                files=2,
                files_found=2,
                documents_in=4,
                dropped={"too_short": 1, "truncated_file": 1},
            ),
            SourceProvenance(
                name="plays",
                license="unknown",
                revision="c0ffee",
                documents=1,
                bytes=100,
                files=1,
                files_found=3,
                documents_in=3,
                dropped={"duplicate": 1, "too_short": 1},
            ),
        ),
        documents_in=7,
        documents_kept=3,
        dropped={"duplicate": 1, "too_short": 2, "truncated_file": 1},
        bytes_kept=115,
        validation_documents=1,
        damaged_files=(DamagedFile(source="books", file="a.gz", reason="truncated_file"),),
        origin="sources",
        contamination=NONE_LEFT,
        held_out=HELD_OUT,
    )


def test_hints_and_places_are_counted_and_bounded(books: SourceCounts) -> None:
    for number in range(500):
        books.count_hints("missing_field", (("content", number), (f"key {number}", 1)))
        books.note_place("missing_field", f"a.jsonl:{number}")
    assert books.hints["missing_field"]["content"] == [500, 499]
    assert len(books.hints["missing_field"]) == 100
    assert books.places["missing_field"] == ["a.jsonl:0", "a.jsonl:1", "a.jsonl:2"]
