"""Records: what is read from one file of a source, before anything is judged.

One line of a .jsonl file, one row of a .parquet file or one whole .txt file is a record. Damage of a file is a record
too, so that nothing that was read or lost goes uncounted.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.corpus.decompress import FileDamage, decompressed, open_binary

LONGEST_RECORD_BYTES = 64_000_000
PARQUET_ROWS = 256
LINE_SUFFIXES = (".jsonl", ".ndjson", ".json")
TEXT_SUFFIXES = (".txt", ".text")
SUFFIXES = (*LINE_SUFFIXES, *TEXT_SUFFIXES, ".parquet")


class Record(NamedTuple):
    """One unit of input. `line` counts from 1 (rows for parquet); `read` is how many bytes of the file it took.

    kind    payload
    json    bytes of the line
    text    the text itself: bytes, str, or whatever stood in its place
    damage  why the record or the rest of the file is lost
    """

    file: str
    line: int
    kind: Literal["json", "text", "damage"]
    payload: Any
    id: str = ""
    read: int = 0


def is_supported(name: str) -> bool:
    return name.removesuffix(".zst").removesuffix(".gz").endswith(SUFFIXES)


def read_file(address: str, name: str, field: str) -> Iterator[Record]:
    """The records of one file in order; `name` is how they call it. Damage ends the file with a damage record."""
    num_records = 0
    with open_binary(address) as file:
        try:
            for record in _records(file, name, field):
                num_records += 1
                yield record
        except FileDamage as damage:
            yield Record(name, num_records + 1, "damage", damage.reason, damage.detail)


def _records(file: BinaryIO, name: str, field: str) -> Iterator[Record]:
    plain_name = name.removesuffix(".zst").removesuffix(".gz")
    if plain_name.endswith(".parquet"):
        return _rows(file, name, field)
    if plain_name.endswith(TEXT_SUFFIXES):
        return _whole(file, name)
    return _lines(file, name)


def _lines(file: BinaryIO, name: str) -> Iterator[Record]:
    before = 0
    for number, line in enumerate(split_lines(decompressed(file, name)), start=1):
        before, read = file.tell(), file.tell() - before
        if line is None:
            yield Record(name, number, "damage", "too_long", read=read)
        else:
            yield Record(name, number, "json", line, read=read)


def split_lines(pieces: Iterable[bytes], longest: int = LONGEST_RECORD_BYTES) -> Iterator[bytes | None]:
    """Lines without their newline; None stands for one longer than `longest` bytes, which is never held in memory."""
    held: list[bytes] = []
    held_bytes = 0
    for piece in pieces:
        *ends, rest = piece.split(b"\n")
        for end in ends:
            yield b"".join((*held, end)) if held_bytes + len(end) <= longest else None
            held, held_bytes = [], 0
        held_bytes += len(rest)
        held = [*held, rest] if held_bytes <= longest else []
    if held_bytes:
        yield b"".join(held) if held_bytes <= longest else None


def _whole(file: BinaryIO, name: str) -> Iterator[Record]:
    held: list[bytes] = []
    held_bytes = 0
    for piece in decompressed(file, name):
        held_bytes += len(piece)
        if held_bytes > LONGEST_RECORD_BYTES:
            yield Record(name, 1, "damage", "too_long")
            return
        held.append(piece)
    yield Record(name, 1, "text", b"".join(held), name, file.tell())


def _rows(file: BinaryIO, name: str, field: str) -> Iterator[Record]:
    try:
        table = pq.ParquetFile(file, page_checksum_verification=True)
        if field not in table.schema_arrow.names:
            raise FileDamage("missing_column", f"no column {field!r} among {', '.join(table.schema_arrow.names)}")
        columns = [column for column in (field, "id") if column in table.schema_arrow.names]
        read = file.seek(0, io.SEEK_END) // max(table.metadata.num_rows, 1)
        number = 0
        for batch in table.iter_batches(PARQUET_ROWS, columns=columns):
            texts = _values(batch.column(field))
            ids = batch.column("id").to_pylist() if "id" in columns else [None] * len(texts)
            for text, id_ in zip(texts, ids, strict=True):
                number += 1
                yield Record(name, number, "text", text, "" if id_ is None else str(id_), read)
    except (pa.ArrowException, OSError) as error:
        raise FileDamage("corrupt_file", str(error).partition("\n")[0]) from None


def _values(column: Any) -> list[Any]:
    """Strings as bytes, because Arrow does not promise that they are UTF-8; everything else as Python has it."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.large_binary())
    values: list[Any] = column.to_pylist()
    return values
