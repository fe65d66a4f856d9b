from __future__ import annotations

import pytest

from pipeline.corpus.losses import FILE_DAMAGE, LOST_RECORDS, damage_line, lost_share, refuse_lost, summary
from pipeline.corpus.losses import refuse_no_document as refuse
from pipeline.corpus.source_counts import SourceCounts
from pipeline.errors import ConfigError, DataError, FolioError

INF = float("inf")


def counts_of(kept: int = 0, *, files: int = 1, **dropped: int) -> SourceCounts:
    counts = SourceCounts("books", "CC0-1.0", revision=None, files=files, files_found=files)
    for _ in range(kept):
        counts.count_kept(10, validation=False)
    for reason, number in dropped.items():
        for _ in range(number):
            counts.count_dropped(reason)
    return counts


def refusal_of(counts: SourceCounts, max_lost: float = 0.05) -> FolioError:
    with pytest.raises(DataError) as refusal:
        refuse_lost(counts, max_lost)
    return refusal.value


def test_line_tells_lost_from_dropped_and_names_every_reason() -> None:
    books = counts_of(4_812, files=12, duplicate=120, too_short=60, invalid_utf8=8, dangling_link=1)
    books.lost_bytes = 12_000
    assert summary([books, counts_of(10)]) == (
        "kept 4,822 of 5,010 documents in 13 files; LOST 8 documents: 8 invalid_utf8; LOST 1 file: 1 dangling_link, "
        "12.0 kB or more; dropped 180: 120 duplicate, 60 too_short (each is in set_aside.jsonl)"
    )
    assert summary([counts_of(3)]) == "kept 3 of 3 documents in 1 file"


def test_share_is_that_of_documents_or_of_files_whichever_is_larger() -> None:
    assert lost_share(counts_of(90, files=10, broken_json=10)) == 0.1
    assert lost_share(counts_of(90, files=10, broken_json=10, truncated_file=2)) == 0.2
    assert lost_share(counts_of(0, files=2, truncated_file=2)) == 1
    assert lost_share(counts_of(5, duplicate=50, too_short=50, contaminated=50, blank_line=9)) == 0


def test_share_up_to_the_limit_is_accepted() -> None:
    refuse_lost(counts_of(95, broken_json=5), 0.05)
    assert "more than corpus.max_lost 5%" in str(refusal_of(counts_of(94, broken_json=6), 0.05))


@pytest.mark.parametrize("lost", [6, 7, 29, 58, 99])
def test_accepting_the_named_loss_is_a_remedy_that_works(lost: int) -> None:
    counts = counts_of(100 - lost, broken_json=lost)
    share = int(refusal_of(counts).remedy.removesuffix("%.").rpartition(" ")[2])
    assert share == pytest.approx(lost, abs=1)
    refuse_lost(counts, share / 100)


def test_loss_names_reasons_counts_places_and_the_encoding_that_reads_it() -> None:
    counts = counts_of(9, files=12, invalid_utf8=3)
    counts.count_hints("invalid_utf8", [("latin-1", 1)])
    for _ in range(2):
        counts.count_hints("invalid_utf8", [("cp1252", 1)])
    counts.note_place("invalid_utf8", "a.txt:1 byte 0 is 0x93")
    refusal = refusal_of(counts)
    assert refusal.message == (
        "Source books lost 3 of 12 documents, more than corpus.max_lost 5%: 3 invalid_utf8 (a.txt:1 byte 0 is 0x93)."
    )
    assert refusal.remedy == "Set encoding: cp1252 in source books, or accept the loss with corpus.max_lost: 25%."


def test_keys_are_counted_where_they_differ() -> None:
    counts = counts_of(1, missing_field=3)
    for keys in (("id", "body"), ("id", "content"), ("id", "content")):
        counts.count_hints("missing_field", [(key, len(key)) for key in keys])
    assert "the keys that are there: id, body (1), content (2)" in refusal_of(counts).message
    assert refusal_of(counts).remedy.startswith("Set field: content in source books, ")


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("dangling_link", "Restore those files, or narrow the path"),
        ("truncated_file", "Restore those files"),
        ("large_window", "Compress the content again with zstd --long=27"),
        ("broken_json", "Correct those records"),
        ("undecodable", "Set encoding in source books"),
        ("missing_field", "Set the field of source books"),
    ],
)
def test_each_loss_has_a_remedy_of_its_own(reason: str, remedy: str) -> None:
    assert refusal_of(counts_of(1, **{reason: 3})).remedy.startswith(f"{remedy}, or accept the loss")


@pytest.mark.parametrize(
    ("counts", "told", "remedy"),
    [
        (counts_of(too_short=3), "3 too_short, the longest has 54 characters", "Set corpus.min_characters: 54, or"),
        (counts_of(duplicate=3), "3 duplicate, each is in plays already", "Give it texts of its own, or"),
        (counts_of(contaminated=3), "3 contaminated", "Set corpus.decontaminate: false"),
        (counts_of(files=3, empty_file=3), "3 empty_file", "Restore those files, or"),
        (counts_of(too_short=3, broken_json=1), "3 too_short, .*; 1 broken_json", "Correct those records, or"),
    ],
)
def test_source_of_which_nothing_is_kept_says_why(counts: SourceCounts, told: str, remedy: str) -> None:
    counts.longest_too_short = 54
    with pytest.raises(DataError, match=told) as refusal:
        refuse(counts, INF, 0, ["plays"])
    assert refusal.value.remedy.startswith(remedy)
    assert "max_bytes" not in refusal.value.remedy


def test_cap_is_blamed_only_where_it_is_the_cause() -> None:
    refuse(counts_of(1), 5, 900, [])
    with pytest.raises(ConfigError, match=r"has 900 bytes, .* share of 5 bytes\. Raise corpus\.max_bytes"):
        refuse(counts_of(), 5, 900, [])
    with pytest.raises(ConfigError, match="it has no records"):
        refuse(counts_of(), 5, 0, [])


def test_no_reason_is_about_files_and_records() -> None:
    assert LOST_RECORDS.isdisjoint(FILE_DAMAGE)


def test_damage_is_told_with_what_was_read_before_it() -> None:
    assert damage_line("books", "a.gz", "truncated_file", "in the middle", 12) == (
        "DAMAGED: a.gz of books ends early (in the middle); 12 records before that were read, what follows is lost."
    )
    assert damage_line("books", "a", "dangling_link", "", 0) == "DAMAGED: a of books is a link to nothing; it is lost."
