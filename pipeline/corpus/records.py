"""Records: what is read from one file of a source, before anything is judged.

A record is one line of a .jsonl file, one row of a .parquet file or one whole .txt file. Damage of a file is a record
too, so that everything that was read or lost is counted.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.corpus.decompress import FileDamage, decompressed, open_binary

LONGEST_RECORD_BYTES = 64_000_000  # of text; a longer record is dropped and never held in memory
PARQUET_ROWS = 256  # decoded at once; rows may be whole books
LINE_SUFFIXES = (".jsonl", ".ndjson", ".json")
TEXT_SUFFIXES = (".txt", ".text")
SUFFIXES = (*LINE_SUFFIXES, *TEXT_SUFFIXES, ".parquet")


class Record(NamedTuple):
    """One unit of input. `line` counts from 1 (rows for parquet); `file_bytes` of the file were read for it, as stored.

    kind    payload
    json    bytes of the line
    text    the text itself: bytes, str, or whatever stands in its column
    damage  why the record or the rest of the file is lost
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


def is_supported(name: str) -> bool:
    """Whether records can be read from a file of this name; case matters."""
    return name.removesuffix(".zst").removesuffix(".gz").endswith(SUFFIXES)


def read_file(address: str, name: str, field: str) -> Iterator[Record]:
    """The records of one file in order. Damage ends the file with a damage record instead of an exception.

    `name` stands for the file in its records; `field` is the column of a parquet file that holds the text.
    """
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
        return _whole_text(file, name)
    return _lines(file, name)


def _lines(file: BinaryIO, name: str) -> Iterator[Record]:
    # The file is read in pieces: the first line of a piece takes all its bytes, the others none. Enough for a bar.
    before = 0
    for number, line in enumerate(split_lines(decompressed(file, name)), start=1):
        before, file_bytes = file.tell(), file.tell() - before
        if line is None:
            yield Record(name, number, "damage", "too_long", file_bytes=file_bytes)
        else:
            yield Record(name, number, "json", line, file_bytes=file_bytes)


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


def _whole_text(file: BinaryIO, name: str) -> Iterator[Record]:
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
        # Columns are compressed together, so a row's own size is not known: each counts as an even share of the file.
        file_bytes = file.seek(0, io.SEEK_END) // max(table.metadata.num_rows, 1)
        number = 0
        for record_batch in table.iter_batches(PARQUET_ROWS, columns=columns):
            texts = _values(record_batch.column(field))
            ids = record_batch.column("id").to_pylist() if "id" in columns else [None] * len(texts)
            for text, id_ in zip(texts, ids, strict=True):
                number += 1
                yield Record(name, number, "text", text, "" if id_ is None else str(id_), file_bytes)
    except (pa.ArrowException, OSError) as error:
        raise FileDamage("corrupt_file", str(error).partition("\n")[0]) from None


def _values(column: Any) -> list[Any]:
    """The values of an Arrow column: strings as bytes, everything else as Python objects."""
    # A string column of a file may hold bytes that are not UTF-8; to_pylist would then raise for the whole batch.
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.large_binary())
    values: list[Any] = column.to_pylist()
    return values
