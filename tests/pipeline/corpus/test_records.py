from __future__ import annotations

import csv
import dataclasses
import gzip
import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.corpus.cleaning import CleaningRules, clean_records
from pipeline.corpus.records import Damage, read_file, split_lines

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


@pytest.mark.parametrize("indent", [None, 1, 4])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.json.gz"])
def test_json_array_gives_a_record_an_element(tmp_path: Path, indent: int | None, name: str) -> None:
    content = json.dumps([{"text": f"text {n}"} for n in range(5_000)], indent=indent).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    records = list(read_file(str(tmp_path / name), name, "text"))
    assert [json.loads(record.payload)["text"] for record in records] == [f"text {n}" for n in range(5_000)]
    assert [record.line for record in records] == list(range(1, 5_001))


def test_object_over_several_lines_is_one_record(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"id": 1, "text": "one"}, indent=2))
    (record,) = read_file(str(tmp_path / "a.json"), "a.json", "text")
    assert json.loads(record.payload) == {"id": 1, "text": "one"}


def test_json_array_that_ends_early_is_damage_and_its_elements_are_kept(tmp_path: Path) -> None:
    content = json.dumps([{"text": "one"}, {"text": "two"}, {"text": "three"}])
    (tmp_path / "a.json").write_text(content[:-5])
    *good, last = read_file(str(tmp_path / "a.json"), "a.json", "text")
    assert [json.loads(record.payload)["text"] for record in good] == ["one", "two"]
    assert (last.kind, last.payload.reason) == ("damage", "truncated_file")


@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize(
    ("stored_as", "encoding"),
    [("utf-16", None), ("utf-32", None), ("utf-8-sig", None), ("cp1252", "cp1252"), ("utf-16-be", "utf-16-be")],
)
def test_json_is_read_in_the_encoding_of_its_mark_or_of_the_config(
    tmp_path: Path, stored_as: str, encoding: str | None, spread: bool
) -> None:
    objects = [{"text": f"caf\u00e9 {n}"} for n in range(3)]
    lines = "\r\n".join(json.dumps(one, ensure_ascii=False) for one in objects)
    content = json.dumps(objects, ensure_ascii=False) if spread else lines
    (tmp_path / "a.jsonl").write_bytes(content.encode(stored_as))
    rules = dataclasses.replace(RULES, encoding=encoding)
    results = clean_records(rules, read_file(str(tmp_path / "a.jsonl"), "a.jsonl", "text", encoding))
    assert [json.loads(result.document)["text"] for result in results] == [one["text"] for one in objects]


def test_brackets_inside_of_characters_do_not_end_an_array(tmp_path: Path) -> None:
    r"""The second byte of this character in Shift JIS is that of a backslash."""
    text = "\u8868" * 3
    assert text.encode("shift_jis")[1:2] == b"\\"
    (tmp_path / "a.json").write_bytes(b'[{"text": "' + text.encode("shift_jis") + b'"}, {"text": "next"}]')
    rules = dataclasses.replace(RULES, encoding="shift_jis")
    results = clean_records(rules, read_file(str(tmp_path / "a.json"), "a.json", "text", "shift_jis"))
    assert [json.loads(result.document)["text"] for result in results] == [text, "next"]


def test_lines_in_utf_16_without_a_mark_are_damage_that_names_the_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes((json.dumps({"text": "one"}) + "\n").encode("utf-16-le") * 3)
    (record,) = read_file(str(tmp_path / "a.jsonl"), "a.jsonl", "text")
    assert (record.payload.reason, record.payload.hints) == ("undecodable_file", (("utf-16-le", 1),))
    assert len(list(read_file(str(tmp_path / "a.jsonl"), "a.jsonl", "text", "utf-16-le"))) == 3


def test_dotted_field_leads_into_structs_of_parquet(tmp_path: Path) -> None:
    rows = [{"text": "one", "n": 1}, None, {"text": "three", "n": 3}]
    pq.write_table(pa.table({"id": ["a", "b", "c"], "data": rows}), tmp_path / "a.parquet")
    records = list(read_file(str(tmp_path / "a.parquet"), "a.parquet", "data.text"))
    assert [(record.id, record.payload) for record in records] == [("a", b"one"), ("b", None), ("c", b"three")]


def test_column_whose_name_has_the_dot_comes_before_the_struct(tmp_path: Path) -> None:
    table = pa.table({"data": [{"text": "inner"}], "data.text": ["named"]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert [record.payload for record in read_file(str(tmp_path / "a.parquet"), "a.parquet", "data.text")] == [b"named"]


@pytest.mark.parametrize("field", ["text", "data", "data.body", "id.text"])
def test_missing_column_names_those_that_are_there(tmp_path: Path, field: str) -> None:
    pq.write_table(pa.table({"id": [1], "data": [{"text": "one"}]}), tmp_path / "a.parquet")
    (record,) = read_file(str(tmp_path / "a.parquet"), "a.parquet", field)
    assert record.payload == Damage(
        "missing_column", f"no column {field!r} among id, data.text", (("id", 0), ("data.text", 1))
    )


def test_damage_says_how_many_bytes_are_lost_with_it(tmp_path: Path) -> None:
    good = gzip.compress(b'{"text": "one"}\n')
    (tmp_path / "a.jsonl.gz").write_bytes(good + b"x" * 100_000)
    *_, last = read_file(str(tmp_path / "a.jsonl.gz"), "a.jsonl.gz", "text")
    assert 90_000 < last.file_bytes <= 100_000 + len(good)
