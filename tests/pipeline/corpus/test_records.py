from __future__ import annotations

import csv
import gzip
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.corpus.cleaning import CleaningRules, clean_records
from pipeline.corpus.records import is_supported, read_file, split_lines

RULES = CleaningRules("messy", "text", min_characters=1, validation_text=Path("unused"), ngram_words=None)

# kept documents and reasons, for every file of the messy folder
MESSY: dict[str, tuple[int, dict[str, int]]] = {
    "bitflip.jsonl.zst": (0, {"corrupt_file": 1}),
    "broken_json.jsonl": (4, {"broken_json": 3, "not_an_object": 3, "not_text": 1, "blank_line": 1}),
    "duplicates.jsonl": (11, {}),
    "empty_and_types.jsonl": (4, {"empty_text": 2, "missing_field": 2, "not_text": 4, "null_text": 1}),
    "empty_payload.jsonl.zst": (0, {}),
    "good.jsonl.gz": (2000, {}),
    "good.jsonl.zst": (2000, {}),
    "good.parquet": (100, {}),
    "invalid_utf8.jsonl": (2, {"invalid_utf8": 3}),
    "mojibake.jsonl": (5, {}),
    "multiframe.jsonl.zst": (2000, {}),
    "multimember.jsonl.gz": (2000, {}),
    "no_final_newline.jsonl": (2, {}),
    "non_english.jsonl": (18, {}),
    "not_really.jsonl.zst": (0, {"corrupt_file": 1}),
    "null_and_control.jsonl": (5, {"broken_json": 1, "lone_surrogate": 1}),
    "special_tokens.jsonl": (3, {}),
    "truncated.jsonl.gz": (756, {"truncated_file": 1}),
    "truncated.jsonl.zst": (0, {"truncated_file": 1}),
    "truncated.parquet": (0, {"corrupt_file": 1}),
    "truncated_large.jsonl.zst": (222, {"truncated_file": 1}),
    "very_long_single_line.jsonl.zst": (4, {}),
    "wrong_columns.parquet": (0, {"missing_column": 1}),
    "zero_bytes.jsonl.zst": (0, {"empty_file": 1}),
}


@pytest.mark.data
@pytest.mark.parametrize("name", MESSY)
def test_messy_file_gives_its_good_documents_and_a_reason_for_each_other(data: Path, name: str) -> None:
    results = clean_records(RULES, read_file(str(data / "messy" / name), name, "text"))
    reasons = Counter(result.reason for result in results)
    assert (reasons.pop("", 0), dict(reasons)) == MESSY[name]


@pytest.mark.data
def test_every_messy_file_is_tested_and_whole_ones_lose_no_record(data: Path) -> None:
    with (data / "messy" / "EXPECTED.tsv").open() as file:
        records = {row["file"]: int(row["lines_or_docs"]) for row in csv.DictReader(file, delimiter="\t")}
    assert records.keys() == MESSY.keys()
    damage = {"corrupt_file", "truncated_file", "empty_file", "missing_column"}
    whole = {name: kept + sum(why.values()) for name, (kept, why) in MESSY.items() if not damage & why.keys()}
    assert whole == {name: records[name] for name in whole}


def test_lines_are_split_at_newlines_only_and_across_pieces() -> None:
    assert list(split_lines([b"on", b"e\ntwo\x85 \xe2\x80\xa8\n", b"\nlast"])) == [
        b"one",
        b"two\x85 \xe2\x80\xa8",
        b"",
        b"last",
    ]


def test_final_newline_makes_no_line() -> None:
    assert list(split_lines([b"one\n"])) == [b"one"]
    assert list(split_lines([])) == []


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_line_over_the_limit_is_given_up_and_the_next_one_read(end: bytes) -> None:
    assert list(split_lines([b"12345", b"6789\nshort\nabc", b"defghi" + end], longest=8)) == [None, b"short", None]


def test_text_file_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one\n\ntwo\n"))
    (record,) = read_file(str(tmp_path / "a.txt.gz"), "a.txt.gz", "text")
    assert (record.kind, record.payload, record.id) == ("text", b"one\n\ntwo\n", "a.txt.gz")


def test_parquet_rows_keep_what_is_not_text(tmp_path: Path) -> None:
    texts = pa.array([b"good", b"bad \xff", None], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"id": [7, 8, None], "text": texts}), tmp_path / "a.parquet")
    records = list(read_file(str(tmp_path / "a.parquet"), "a.parquet", "text"))
    assert [(record.id, record.payload) for record in records] == [("7", b"good"), ("8", b"bad \xff"), ("", None)]


def test_records_add_up_to_the_bytes_of_their_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "one"}\n{"text": "two"}\n')
    assert sum(record.file_bytes for record in read_file(str(tmp_path / "a.jsonl"), "a.jsonl", "text")) == 32


@pytest.mark.parametrize(
    ("name", "supported"),
    [("a.jsonl", True), ("a.jsonl.zst", True), ("a.txt.gz", True), ("a.parquet", True), ("a.tsv", False), ("a", False)],
)
def test_supported_names(name: str, supported: bool) -> None:
    assert is_supported(name) is supported
