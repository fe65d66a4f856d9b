from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.cleaning import CleaningRules, RecordResult, Rejected, clean_records, cleaned
from pipeline.corpus.records import Record
from pipeline.corpus.seen_texts import text_digest


def result_of(payload: Any, kind: Any = "json", **rules: Any) -> RecordResult:
    values: dict[str, Any] = {"min_characters": 1, "validation_text": Path("unused"), "ngram_words": None} | rules
    (result,) = clean_records(CleaningRules("books", "text", **values), [Record("a.jsonl", 3, kind, payload)])
    return result


def test_document_has_id_source_and_clean_text() -> None:
    result = result_of(b'{"id": "a/1", "title": "A", "text": "\xef\xbb\xbfOne\\r\\ntwo\\u0000 "}')
    assert json.loads(result.document) == {"id": "a/1", "source": "books", "text": "One\ntwo"}
    assert (result.reason, result.text_bytes, result.digest) == ("", 7, text_digest(b"One\ntwo"))


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("a\r\nb\rc\n", "a\nb\nc"),
        ("tab\tstays, bell\x07 and delete\x7f go", "tab\tstays, bell and delete go"),
        ("  caf\u00e9 \u2014 \u2028 \U0001f600 ", "caf\u00e9 \u2014 \u2028 \U0001f600"),
        ("<|endoftext|> stays text", "<|endoftext|> stays text"),
        ("\ufeffmark", "mark"),
    ],
)
def test_cleaning_is_conservative(text: str, clean: str) -> None:
    assert cleaned(text).decode() == clean


def test_lone_surrogate_is_rejected() -> None:
    with pytest.raises(Rejected, match="lone_surrogate"):
        cleaned("half \ud800 pair")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "blank_line"),
        (b" \r", "blank_line"),
        (b'{"text": "cut', "broken_json"),
        (b"[" * 100_000, "broken_json"),
        (b'{"text": ' + b"9" * 5_000 + b"}", "broken_json"),
        (b'["text"]', "not_an_object"),
        (b'{"txt": "a"}', "missing_field"),
        (b'{"text": null}', "null_text"),
        (b'{"text": 7}', "not_text"),
        (b'{"text": ["a"]}', "not_text"),
        (b'{"text": "  \\n"}', "empty_text"),
        (b'{"text": "\xff"}', "invalid_utf8"),
        (b'{"text": "\\ud800"}', "lone_surrogate"),
        (b'{"text": "short"}', "too_short"),
    ],
)
def test_bad_line_is_rejected_with_its_reason(line: bytes, reason: str) -> None:
    assert result_of(line, min_characters=6).reason == reason


def test_shortness_is_counted_in_characters() -> None:
    short = result_of("\u00e9\u00e9\u00e9", "text", min_characters=4)
    assert (short.reason, short.characters) == ("too_short", 3)
    assert result_of("\u00e9\u00e9\u00e9", "text", min_characters=3).reason == ""


def test_text_over_the_limit_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.corpus.cleaning.LONGEST_RECORD_BYTES", 10)
    assert result_of("elevenbytes", "text").reason == "too_long"


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (b'{"id": 12, "text": "a"}', "12"),
        (b'{"text": "a"}', "a.jsonl:3"),
        (b'{"id": true, "text": "a"}', "a.jsonl:3"),
        (b'{"id": "\\ud800", "text": "a"}', "\\ud800"),
    ],
)
def test_every_document_has_an_id_that_utf8_holds(line: bytes, name: str) -> None:
    assert json.loads(result_of(line).document)["id"] == name


def test_contaminated_document_is_rejected_with_its_size(tmp_path: Path) -> None:
    target = tmp_path / "validation.txt"
    target.write_text("shall I compare thee to a summer's day")
    quoting = 'He said: "Compare thee to a summers..."'
    result = result_of(quoting, "text", validation_text=target, ngram_words=4)
    assert (result.reason, result.text_bytes) == ("contaminated", len(quoting))
    assert result_of(quoting, "text", validation_text=target, ngram_words=6).reason == ""


def test_missing_field_names_the_keys_that_are_there() -> None:
    result = result_of(b'{"id": 1, "data": {"text": "three words here"}}')
    assert (result.reason, result.detail) == ("missing_field", "no key 'text' among id, data.text")
    assert result.hints == (("id", 0), ("data.text", 16))


def test_dotted_field_leads_into_the_object() -> None:
    rules = CleaningRules("books", "data.text", 1, Path("unused"), None)
    (result,) = clean_records(rules, [Record("a.jsonl", 1, "json", b'{"id": 1, "data": {"text": "found"}}')])
    assert json.loads(result.document) == {"id": "1", "source": "books", "text": "found"}


def test_text_in_the_config_s_encoding_is_decoded_and_what_is_not_is_rejected() -> None:
    assert result_of("un caf\u00e9 noir".encode("cp1252"), "text").reason == "invalid_utf8"
    assert result_of("un caf\u00e9 noir".encode("cp1252"), "text").hints == (("cp1252", 1),)
    result = result_of("un caf\u00e9 noir".encode("cp1252"), "text", encoding="cp1252")
    assert json.loads(result.document)["text"] == "un caf\u00e9 noir"
    assert result_of(b"\x81", "text", encoding="cp1252").reason == "undecodable"
