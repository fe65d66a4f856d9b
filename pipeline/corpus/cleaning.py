"""From a record to a clean document, or to the reason for dropping it. Runs in the worker processes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.corpus.contamination import ngrams_of_file
from pipeline.corpus.fields import MISSING, text_keys, value_at
from pipeline.corpus.parts import Document, document_line
from pipeline.corpus.records import LONGEST_RECORD_BYTES, Record
from pipeline.corpus.seen_texts import text_digest
from pipeline.corpus.text_encoding import BYTE_ORDER_MARK, Undecodable, decoded, normalised


@dataclass(frozen=True)
class CleaningRules:
    """How the records of one source are judged; `ngram_words` None leaves contaminated documents in.

    `field` is the key of a JSON record that holds its text, or a dotted path to it; `encoding` is that of text that has
    no byte-order mark and is not UTF-8; `validation_text` is the target's validation file.
    """

    # A path and not the n-grams: the rules are pickled with every unit of work, and a worker reads the file once.
    source: str
    field: str
    min_characters: int
    validation_text: Path
    ngram_words: int | None
    encoding: str | None = None


class RecordResult(NamedTuple):
    """What became of one record: a document line to write if `reason` is empty, else why it was dropped.

    `digest`, `text_bytes` (UTF-8) and, for what is too short, `characters` are those of the cleaned text; `file_bytes`
    is that of the record. `hints` are what is there instead of what was looked for, with a weight each: the keys of a
    record with the characters of their text, or encodings.
    """

    file: str
    line: int
    reason: str
    detail: str = ""
    document: bytes = b""
    digest: bytes = b""
    text_bytes: int = 0
    file_bytes: int = 0
    characters: int = 0
    hints: tuple[tuple[str, int], ...] = ()


class Rejected(Exception):
    """The record gives no document; `reason` is a key of the corpus' `dropped` counts and of set_aside.jsonl."""

    def __init__(
        self,
        reason: str,
        detail: str = "",
        *,
        text_bytes: int = 0,
        characters: int = 0,
        hints: tuple[tuple[str, int], ...] = (),
    ) -> None:
        super().__init__(reason)
        self.reason, self.detail, self.hints = reason, detail, hints
        self.text_bytes, self.characters = text_bytes, characters


def clean_records(rules: CleaningRules, records: Iterable[Record]) -> list[RecordResult]:
    """The result of each record, in order."""
    return [_result(rules, record) for record in records]


def _result(rules: CleaningRules, record: Record) -> RecordResult:
    try:
        name, raw = name_and_text(record, rules)
        text = cleaned(raw)
        _check(rules, text)
    except Rejected as rejected:
        return RecordResult(
            record.file,
            record.line,
            rejected.reason,
            rejected.detail,
            text_bytes=rejected.text_bytes,
            file_bytes=record.file_bytes,
            characters=rejected.characters,
            hints=rejected.hints,
        )
    line = document_line(Document(id=name, source=rules.source, text=text.decode()))
    return RecordResult(record.file, record.line, "", "", line, text_digest(text), len(text), record.file_bytes)


def cleaned(text: str) -> bytes:
    """The text as `text_encoding.normalised` spells it, without whitespace at either end. Raises Rejected."""
    try:
        return normalised(text).strip()
    except UnicodeEncodeError:
        # JSON may spell half of a surrogate pair ("\ud800"), which Python keeps and UTF-8 cannot hold.
        raise Rejected("lone_surrogate") from None


def name_and_text(record: Record, rules: CleaningRules) -> tuple[str, str]:
    """Id and text of a record; without an id its place is the id. Raises Rejected."""
    if record.kind == "damage":
        reason, detail, hints = record.payload
        raise Rejected(reason, detail, hints=hints)
    name, text = _from_json(record.payload, rules) if record.kind == "json" else (record.id, record.payload)
    if text is None:
        raise Rejected("null_text")
    if isinstance(text, bytes):
        text = _decoded(text, rules)
    if not isinstance(text, str):
        raise Rejected("not_text", type(text).__name__)
    return name or f"{record.file}:{record.line}", text


def _from_json(line: bytes, rules: CleaningRules) -> tuple[str, Any]:
    text = _decoded(line, rules).removeprefix(BYTE_ORDER_MARK)
    if not text.strip():
        raise Rejected("blank_line")
    try:
        record = json.loads(text)
    # ValueError also for an integer of more than 4,300 digits (CPython 3.11); RecursionError for nested brackets.
    except (ValueError, RecursionError):
        raise Rejected("broken_json") from None
    if not isinstance(record, dict):
        raise Rejected("not_an_object", type(record).__name__)
    value = value_at(record, rules.field)
    if value is MISSING:
        keys = text_keys(record)
        names = ", ".join(key for key, _ in keys) or "none"
        raise Rejected("missing_field", f"no key {rules.field!r} among {names}", hints=keys)
    return _name(record.get("id")), value


def _name(value: Any) -> str:
    # True and False are ints in Python, but not ids.
    if not isinstance(value, str | int) or isinstance(value, bool):
        return ""
    return str(value).encode("utf-8", "backslashreplace").decode()  # an id may hold lone surrogates too


def _decoded(data: bytes, rules: CleaningRules) -> str:
    try:
        return decoded(data, rules.encoding)
    except Undecodable as error:
        reason = "undecodable" if rules.encoding else "invalid_utf8"
        raise Rejected(reason, error.detail, hints=tuple((guess, 1) for guess in error.guesses)) from None


def _check(rules: CleaningRules, text: bytes) -> None:
    """Raise Rejected for a text that is empty, too long, too short or contaminated."""
    if not text:
        raise Rejected("empty_text")
    if len(text) > LONGEST_RECORD_BYTES:
        raise Rejected("too_long", f"{len(text)} bytes")
    num_characters = len(text) if text.isascii() else len(text.decode())
    if num_characters < rules.min_characters:
        raise Rejected("too_short", f"{num_characters} characters", characters=num_characters)
    # Last, because it costs more than all other checks together.
    if rules.ngram_words is not None:
        shared = ngrams_of_file(rules.validation_text, rules.ngram_words).shared_with(text)
        if shared:
            detail = f"{len(shared)} n-grams of the target's validation text"
            raise Rejected("contaminated", detail, text_bytes=len(text))
