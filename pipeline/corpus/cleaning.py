"""From a record to a clean document, or to the reason why not. Runs in the worker processes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.corpus.contamination import ngrams_of_file
from pipeline.corpus.parts import Document, document_line
from pipeline.corpus.records import LONGEST_RECORD_BYTES, Record

CONTROLS = bytes(code for code in (*range(32), 127) if chr(code) not in "\n\t")  # bytes that no other character uses
BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True)
class CleaningRules:
    """How the records of one source are judged; `ngram_words` None leaves contaminated documents in."""

    source: str
    field: str
    min_characters: int
    validation: Path
    ngram_words: int | None


class RecordResult(NamedTuple):
    """What became of one record: a line for a part if `reason` is empty. `read` as in Record."""

    file: str
    line: int
    reason: str
    detail: str = ""
    document: bytes = b""
    digest: bytes = b""
    text_bytes: int = 0
    read: int = 0


class Rejected(Exception):
    """The record gives no document; the reason is a key of `counts.dropped`."""

    def __init__(self, reason: str, detail: str = "", text_bytes: int = 0) -> None:
        super().__init__(reason)
        self.reason, self.detail, self.text_bytes = reason, detail, text_bytes


def prepare(recipe: CleaningRules, records: Iterable[Record]) -> list[RecordResult]:
    """The outcome of each record, in order."""
    return [_outcome(recipe, record) for record in records]


def text_digest(text: bytes) -> bytes:
    """16 bytes that identify a cleaned text: equal texts are duplicates."""
    return hashlib.blake2b(text, digest_size=16).digest()


def _outcome(recipe: CleaningRules, record: Record) -> RecordResult:
    try:
        name, raw = _parsed(record, recipe.field)
        text = cleaned(raw)
        _check(recipe, text)
    except Rejected as rejected:
        reason, detail, size = rejected.reason, rejected.detail, rejected.text_bytes
        return RecordResult(record.file, record.line, reason, detail, text_bytes=size, read=record.read)
    line = document_line(Document(id=name, source=recipe.source, text=text.decode()))
    return RecordResult(record.file, record.line, "", "", line, text_digest(text), len(text), record.read)


def cleaned(text: str) -> bytes:
    """UTF-8 with newlines as \\n, without other control characters than tab, and without blanks around it."""
    try:
        data = text.removeprefix(BYTE_ORDER_MARK).encode()
    except UnicodeEncodeError:
        raise Rejected("lone_surrogate") from None
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").translate(None, CONTROLS).strip()


def _parsed(record: Record, field: str) -> tuple[str, str]:
    """Id and text of a record. Raises Rejected."""
    if record.kind == "damage":
        raise Rejected(record.payload, record.id)
    name, text = _parsed_line(record.payload, field) if record.kind == "json" else (record.id, record.payload)
    if text is None:
        raise Rejected("null_text")
    if isinstance(text, bytes):
        text = _decoded(text)
    if not isinstance(text, str):
        raise Rejected("not_text", type(text).__name__)
    return name or f"{record.file}:{record.line}", text


def _parsed_line(line: bytes, field: str) -> tuple[str, Any]:
    text = _decoded(line).removeprefix(BYTE_ORDER_MARK)
    if not text.strip():
        raise Rejected("blank_line")
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        raise Rejected("broken_json") from None
    if not isinstance(record, dict):
        raise Rejected("not_an_object", type(record).__name__)
    if field not in record:
        raise Rejected("missing_field", f"no key {field!r}")
    return _name(record.get("id")), record[field]


def _name(value: Any) -> str:
    if not isinstance(value, str | int) or isinstance(value, bool):
        return ""
    return str(value).encode("utf-8", "backslashreplace").decode()  # an id may hold lone surrogates too


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Rejected("invalid_utf8", f"byte {error.start}") from None


def _check(recipe: CleaningRules, text: bytes) -> None:
    if not text:
        raise Rejected("empty_text")
    if len(text) > LONGEST_RECORD_BYTES:
        raise Rejected("too_long", f"{len(text)} bytes")
    num_characters = len(text) if text.isascii() else len(text.decode())
    if num_characters < recipe.min_characters:
        raise Rejected("too_short", f"{num_characters} characters")
    if recipe.ngram_words is not None:
        shared = ngrams_of_file(recipe.validation, recipe.ngram_words).shared_with(text)
        if shared:
            raise Rejected("contaminated", f"{len(shared)} n-grams of the target's validation text", len(text))
