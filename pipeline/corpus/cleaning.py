"""From a record to a clean document, or to the reason for dropping it. Runs in the worker processes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.corpus.contamination import ngrams_of_file
from pipeline.corpus.parts import Document, document_line
from pipeline.corpus.records import LONGEST_RECORD_BYTES, Record
from pipeline.corpus.seen_texts import text_digest

# Control characters are single bytes below 0x80, and UTF-8 uses those for nothing else: they can be deleted bytewise.
CONTROLS = bytes(code for code in (*range(32), 127) if chr(code) not in "\n\t")
BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True)
class CleaningRules:
    """How the records of one source are judged; `ngram_words` None leaves contaminated documents in.

    `field` is the key of a JSON record that holds its text; `validation_text` is the target's validation file.
    """

    # A path and not the n-grams: the rules are pickled with every unit of work, and a worker reads the file once.
    source: str
    field: str
    min_characters: int
    validation_text: Path
    ngram_words: int | None


class RecordResult(NamedTuple):
    """What became of one record: a document line to write if `reason` is empty, else why it was dropped.

    `digest` and `text_bytes` are those of the cleaned text (UTF-8); `file_bytes` is that of the record.
    """

    file: str
    line: int
    reason: str
    detail: str = ""
    document: bytes = b""
    digest: bytes = b""
    text_bytes: int = 0
    file_bytes: int = 0


class Rejected(Exception):
    """The record gives no document; `reason` is a key of the corpus' `dropped` counts and of set_aside.jsonl."""

    def __init__(self, reason: str, detail: str = "", text_bytes: int = 0) -> None:
        super().__init__(reason)
        self.reason, self.detail, self.text_bytes = reason, detail, text_bytes


def clean_records(rules: CleaningRules, records: Iterable[Record]) -> list[RecordResult]:
    """The result of each record, in order."""
    return [_result(rules, record) for record in records]


def _result(rules: CleaningRules, record: Record) -> RecordResult:
    try:
        name, raw = _name_and_text(record, rules.field)
        text = cleaned(raw)
        _check(rules, text)
    except Rejected as rejected:
        reason, detail, size = rejected.reason, rejected.detail, rejected.text_bytes
        return RecordResult(record.file, record.line, reason, detail, text_bytes=size, file_bytes=record.file_bytes)
    line = document_line(Document(id=name, source=rules.source, text=text.decode()))
    return RecordResult(record.file, record.line, "", "", line, text_digest(text), len(text), record.file_bytes)


def cleaned(text: str) -> bytes:
    r"""UTF-8 with newlines as \n, no control characters but tab, and no whitespace at either end. Raises Rejected."""
    try:
        data = text.removeprefix(BYTE_ORDER_MARK).encode()
    except UnicodeEncodeError:
        # JSON may spell half of a surrogate pair ("\ud800"), which Python keeps and UTF-8 cannot hold.
        raise Rejected("lone_surrogate") from None
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").translate(None, CONTROLS).strip()


def _name_and_text(record: Record, field: str) -> tuple[str, str]:
    """Id and text of a record; without an id its place is the id. Raises Rejected."""
    if record.kind == "damage":
        raise Rejected(record.payload, record.id)
    name, text = _from_json(record.payload, field) if record.kind == "json" else (record.id, record.payload)
    if text is None:
        raise Rejected("null_text")
    if isinstance(text, bytes):
        text = _decoded(text)
    if not isinstance(text, str):
        raise Rejected("not_text", type(text).__name__)
    return name or f"{record.file}:{record.line}", text


def _from_json(line: bytes, field: str) -> tuple[str, Any]:
    text = _decoded(line).removeprefix(BYTE_ORDER_MARK)
    if not text.strip():
        raise Rejected("blank_line")
    try:
        record = json.loads(text)
    # ValueError also for an integer of more than 4,300 digits (CPython 3.11); RecursionError for nested brackets.
    except (ValueError, RecursionError):
        raise Rejected("broken_json") from None
    if not isinstance(record, dict):
        raise Rejected("not_an_object", type(record).__name__)
    if field not in record:
        raise Rejected("missing_field", f"no key {field!r}")
    return _name(record.get("id")), record[field]


def _name(value: Any) -> str:
    # True and False are ints in Python, but not ids.
    if not isinstance(value, str | int) or isinstance(value, bool):
        return ""
    return str(value).encode("utf-8", "backslashreplace").decode()  # an id may hold lone surrogates too


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Rejected("invalid_utf8", f"byte {error.start}") from None


def _check(rules: CleaningRules, text: bytes) -> None:
    """Raise Rejected for a text that is empty, too long, too short or contaminated."""
    if not text:
        raise Rejected("empty_text")
    if len(text) > LONGEST_RECORD_BYTES:
        raise Rejected("too_long", f"{len(text)} bytes")
    num_characters = len(text) if text.isascii() else len(text.decode())
    if num_characters < rules.min_characters:
        raise Rejected("too_short", f"{num_characters} characters")
    # Last, because it costs more than all other checks together.
    if rules.ngram_words is not None:
        shared = ngrams_of_file(rules.validation_text, rules.ngram_words).shared_with(text)
        if shared:
            raise Rejected("contaminated", f"{len(shared)} n-grams of the target's validation text", len(text))
