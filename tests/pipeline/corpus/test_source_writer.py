from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.corpus.cleaning import RecordResult
from pipeline.corpus.parts import document_line
from pipeline.corpus.seen_texts import SeenTexts, text_digest
from pipeline.corpus.source_counts import SourceCounts
from pipeline.corpus.source_files import SourceFiles
from pipeline.corpus.source_writer import SourceWriter
from pipeline.corpus.splits import SplitRule

NO_VALIDATION = SplitRule(0.0, seed=0)


def kept(text: str, line: int = 1) -> RecordResult:
    document = document_line({"id": str(line), "source": "books", "text": text})
    return RecordResult("a.jsonl", line, "", "", document, text_digest(text.encode()), len(text.encode()))


@pytest.fixture
def files(tmp_path: Path) -> SourceFiles:
    source = SourceFiles(tmp_path, 0)
    source.set_aside.parent.mkdir()
    return source


def texts(files: SourceFiles) -> list[str]:
    return [document["text"] for document in files.documents()]


def test_text_is_kept_once_over_all_sources(files: SourceFiles) -> None:
    seen = SeenTexts()
    seen.add_text("from an earlier source")
    counts = SourceCounts("books", "CC0-1.0", revision=None)
    with SourceWriter(files, counts, NO_VALIDATION, seen, max_bytes=1_000) as writer:
        assert all(writer.take(kept(text)) for text in ("one", "two", "one", "from an earlier source"))
        writer.finish()
    assert texts(files) == ["one", "two"]
    assert (counts.documents_in, counts.documents, counts.bytes, counts.files) == (4, 2, 6, 1)
    assert counts.dropped == {"duplicate": 2}


def test_writing_ends_at_the_document_that_would_cross_the_cap(files: SourceFiles) -> None:
    """Seven bytes: "four" fits, "five" would make eight; a duplicate before it costs nothing."""
    counts = SourceCounts("books", "CC0-1.0", revision=None)
    with SourceWriter(files, counts, NO_VALIDATION, SeenTexts(), max_bytes=7) as writer:
        assert [writer.take(kept(text)) for text in ("four", "four", "five")] == [True, True, False]
        assert writer.too_large_bytes == 4
        writer.finish()
    assert texts(files) == ["four"]
    assert (counts.documents_in, counts.bytes) == (2, 4)


def test_documents_go_to_the_split_of_the_rule(files: SourceFiles) -> None:
    rule = SplitRule(0.5, seed=0)
    counts = SourceCounts("books", "CC0-1.0", revision=None)
    wanted = [f"text {number}" for number in range(20)]
    with SourceWriter(files, counts, rule, SeenTexts(), max_bytes=1_000) as writer:
        for text in wanted:
            writer.take(kept(text))
        writer.finish()
    by_split = {
        split: [t for t in wanted if rule.split_of(text_digest(t.encode())) == split]
        for split in ("train", "validation")
    }
    assert texts(files) == by_split["train"] + by_split["validation"]
    assert counts.validation_documents == len(by_split["validation"]) > 0


def test_what_is_set_aside_leaves_its_place_and_reason_and_damage_its_file(files: SourceFiles) -> None:
    counts = SourceCounts("books", "CC0-1.0", revision=None)
    with SourceWriter(files, counts, NO_VALIDATION, SeenTexts(), max_bytes=1_000) as writer:
        writer.take(RecordResult("a.gz", 4, "contaminated", "2 n-grams", text_bytes=90))
        writer.take(RecordResult("a.gz", 5, "truncated_file", "ends in the middle"))
        writer.finish()
    assert [json.loads(line) for line in files.set_aside.read_text().splitlines()] == [
        {"source": "books", "file": "a.gz", "line": 4, "reason": "contaminated"},
        {"source": "books", "file": "a.gz", "line": 5, "reason": "truncated_file", "detail": "ends in the middle"},
    ]
    assert counts.contaminated_bytes == 90
    assert counts.damaged_files == [{"source": "books", "file": "a.gz", "reason": "truncated_file"}]


def test_losses_leave_what_would_cure_them(files: SourceFiles) -> None:
    counts = SourceCounts("books", "CC0-1.0", revision=None)
    with SourceWriter(files, counts, NO_VALIDATION, SeenTexts(), max_bytes=1_000) as writer:
        writer.take(RecordResult("a.txt", 1, "invalid_utf8", "byte 7 is 0x93", hints=(("cp1252", 1),)))
        writer.take(RecordResult("b.txt", 1, "too_short", "54 characters", characters=54))
        writer.take(RecordResult("c.txt", 1, "too_short", "20 characters", characters=20))
        writer.take(RecordResult("d.gz", 9, "corrupt_file", "wrong", file_bytes=90))
        writer.take(RecordResult("e.txt", 1, "dangling_link"))
        writer.finish()
    assert counts.hints["invalid_utf8"] == {"cp1252": [1, 1]}
    assert counts.places["invalid_utf8"] == ["a.txt:1 byte 7 is 0x93"]
    assert (counts.longest_too_short, counts.lost_bytes, counts.files) == (54, 90, 4)
    details = [json.loads(line) for line in files.set_aside.read_text().splitlines()]
    assert details[0]["detail"] == "byte 7 is 0x93"
    assert details[3] == {
        "source": "books", "file": "d.gz", "line": 9, "reason": "corrupt_file", "bytes": 90, "detail": "wrong"
    }  # fmt: skip
    assert "detail" not in details[1]
