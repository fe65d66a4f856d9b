"""Records: what is read from one file of a source, before anything is judged.

A record is one line of a .jsonl file, one element of a file that is a JSON array, one row of a .parquet file or one
whole .txt file. Damage of a file is a record too, so that everything that was read or lost is counted.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, BinaryIO, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.corpus.decompress import FileDamage, decompressed, open_binary
from pipeline.corpus.fields import value_at
from pipeline.corpus.json_values import UnclosedJson, is_spread, split_values
from pipeline.corpus.text_encoding import Undecodable, has_one_byte_a_character, keeps_ascii, transcoded
from pipeline.inputs.local_files import TEXT_SUFFIXES

LONGEST_RECORD_BYTES = 64_000_000  # of text; a longer record is dropped and never held in memory
PARQUET_ROWS = 256  # decoded at once; rows may be whole books


class Damage(NamedTuple):
    """Why a record or the rest of a file is lost. `hints` are what stands there instead, with a weight each."""

    reason: str
    detail: str = ""
    hints: tuple[tuple[str, int], ...] = ()


class Record(NamedTuple):
    """One unit of input. `line` counts from 1 (rows for parquet, elements for an array); `file_bytes` of the file, as
    stored, were read for it, or are lost with it.

    kind    payload
    json    bytes of the line
    text    the text itself: bytes, str, or whatever stands in its column
    damage  a Damage
    """

    file: str
    line: int
    kind: Literal["json", "text", "damage"]
    payload: Any
    id: str = ""
    file_bytes: int = 0


def payload_bytes(record: Record) -> int:
    """About how much memory the payload takes: bytes of a line, characters of a str, 0 for anything else."""
    return len(record.payload) if isinstance(record.payload, bytes | str) else 0


def read_file(address: str, name: str, field: str, encoding: str | None = None) -> Iterator[Record]:
    """The records of one file in order. Damage ends the file with a damage record instead of an exception.

    `name` stands for the file in its records; `field` is the column of a parquet file that holds the text; `encoding`
    is that of text that neither has a byte-order mark nor is UTF-8.
    """
    try:
        file = open_binary(address)
    except OSError as error:
        if "://" in address:
            raise
        yield Record(name, 1, "damage", Damage("unreadable_file", error.strerror or str(error)))
        return
    num_records = 0
    with file:
        try:
            for record in _records(file, name, field, encoding):
                num_records += 1
                yield record
        except FileDamage as damage:
            payload = Damage(damage.reason, damage.detail, damage.hints)
            lost = _bytes_left(file, none_read=not num_records)
            yield Record(name, num_records + 1, "damage", payload, file_bytes=lost)


def _bytes_left(file: BinaryIO, *, none_read: bool) -> int:
    """Bytes of the file, as stored, that gave no record; 0 where its size is not known."""
    try:
        position = 0 if none_read else file.tell()
        return file.seek(0, io.SEEK_END) - position
    except OSError:
        return 0  # a server that does not announce lengths; also what a file says that cannot seek


def _records(file: BinaryIO, name: str, field: str, encoding: str | None) -> Iterator[Record]:
    plain_name = name.removesuffix(".zst").removesuffix(".gz")
    if plain_name.endswith(".parquet"):
        return _rows(file, name, field)
    if plain_name.endswith(TEXT_SUFFIXES):
        return _whole_text(file, name, encoding)
    return _lines(file, name, encoding)


def _lines(file: BinaryIO, name: str, encoding: str | None) -> Iterator[Record]:
    # The file is read in pieces: the first line of a piece takes all its bytes, the others none. Enough for a bar.
    before = 0
    for number, line in enumerate(_json_values(file, name, encoding), start=1):
        before, file_bytes = file.tell(), file.tell() - before
        if line is None:
            yield Record(name, number, "damage", Damage("too_long"), file_bytes=file_bytes)
        else:
            yield Record(name, number, "json", line, file_bytes=file_bytes)


def _json_values(file: BinaryIO, name: str, encoding: str | None) -> Iterator[bytes | None]:
    """The lines of JSON Lines, or the elements of an array; None for one that is too long."""
    pieces = _utf8_pieces(decompressed(file, name), encoding)
    head = next(pieces, b"")
    if not is_spread(head):
        return split_lines(chain((head,), pieces))
    # Brackets are looked for byte by byte, which is only right where no character has a bracket among its bytes.
    if encoding is not None and keeps_ascii(encoding) and not has_one_byte_a_character(encoding):
        pieces = _utf8_pieces(chain((head,), pieces), encoding, strict=True)
        head = next(pieces, b"")
    return _closed(split_values(chain((head,), pieces), LONGEST_RECORD_BYTES))


def _utf8_pieces(pieces: Iterable[bytes], encoding: str | None, *, strict: bool = False) -> Iterator[bytes]:
    try:
        yield from transcoded(pieces, encoding, strict=strict)
    except Undecodable as error:
        raise FileDamage("undecodable_file", error.detail, tuple((guess, 1) for guess in error.guesses)) from None


def _closed(values: Iterator[bytes | None]) -> Iterator[bytes | None]:
    try:
        yield from values
    except UnclosedJson:
        raise FileDamage("truncated_file", "the file ends in the middle of its JSON array or object") from None


def split_lines(pieces: Iterable[bytes], longest: int = LONGEST_RECORD_BYTES) -> Iterator[bytes | None]:
    r"""Lines without their \n; None stands for a line longer than `longest` bytes, which is never held in memory.

    `pieces` may cut lines anywhere.
    """
    held: list[bytes] = []
    held_bytes = 0
    for piece in pieces:
        # All but the last complete a line; `rest` begins the next one.
        *ends, rest = piece.split(b"\n")
        for end in ends:
            yield b"".join((*held, end)) if held_bytes + len(end) <= longest else None
            held, held_bytes = [], 0
        held_bytes += len(rest)
        held = [*held, rest] if held_bytes <= longest else []
    if held_bytes:
        yield b"".join(held) if held_bytes <= longest else None


def _whole_text(file: BinaryIO, name: str, encoding: str | None) -> Iterator[Record]:
    held: list[bytes] = []
    held_bytes = 0
    pieces = decompressed(file, name)
    # Any other encoding is the worker's to decode.
    if encoding is not None and not keeps_ascii(encoding):
        pieces = _utf8_pieces(pieces, encoding)
    for piece in pieces:
        held_bytes += len(piece)
        if held_bytes > LONGEST_RECORD_BYTES:
            yield Record(name, 1, "damage", Damage("too_long"))
            return
        held.append(piece)
    yield Record(name, 1, "text", b"".join(held), name, file.tell())


def _rows(file: BinaryIO, name: str, field: str) -> Iterator[Record]:
    try:
        table = pq.ParquetFile(file, page_checksum_verification=True)
        path = _column_path(table.schema_arrow, field)
        columns = [".".join(path), *(["id"] if "id" in table.schema_arrow.names and path != ("id",) else [])]
        # Columns are compressed together, so a row's own size is not known: each counts as an even share of the file.
        file_bytes = file.seek(0, io.SEEK_END) // max(table.metadata.num_rows, 1)
        number = 0
        for record_batch in table.iter_batches(PARQUET_ROWS, columns=columns):
            texts = _values(record_batch.column(path[0]), path[1:])
            ids = record_batch.column("id").to_pylist() if "id" in columns else [None] * len(texts)
            for text, id_ in zip(texts, ids, strict=True):
                number += 1
                yield Record(name, number, "text", text, "" if id_ is None else str(id_), file_bytes)
    except (pa.ArrowException, OSError) as error:
        raise FileDamage("corrupt_file", str(error).partition("\n")[0]) from None


class _Column(NamedTuple):
    path: tuple[str, ...]  # its name, or the way to it through structs
    is_text: bool


def _column_path(schema: pa.Schema, field: str) -> tuple[str, ...]:
    """The column of a field, or the way to it through structs for a dotted one. Raises FileDamage if there is none."""
    columns = _columns(schema, ())
    found = value_at(columns, field)
    if isinstance(found, _Column):
        return found.path
    hints = tuple((".".join(column.path), int(column.is_text)) for column in _leaves(columns))
    raise FileDamage("missing_column", f"no column {field!r} among {', '.join(name for name, _ in hints)}", hints)


def _columns(fields: Iterable[pa.Field], above: tuple[str, ...]) -> dict[str, Any]:
    """Columns by name, and structs as dictionaries of theirs."""
    return {
        field.name: _columns([field.type.field(i) for i in range(field.type.num_fields)], (*above, field.name))
        if pa.types.is_struct(field.type)
        else _Column((*above, field.name), pa.types.is_string(field.type) or pa.types.is_large_string(field.type))
        for field in fields
    }


def _leaves(columns: dict[str, Any]) -> Iterator[_Column]:
    for column in columns.values():
        yield from (column,) if isinstance(column, _Column) else _leaves(column)


def _values(column: Any, path: tuple[str, ...]) -> list[Any]:
    """The values of an Arrow column, or of what `path` leads to in it: strings as bytes, all else as Python objects."""
    if path:
        column = pc.struct_field(column, list(path))  # null where the struct is null
    # A string column of a file may hold bytes that are not UTF-8; to_pylist would then raise for the whole batch.
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.large_binary())
    values: list[Any] = column.to_pylist()
    return values
