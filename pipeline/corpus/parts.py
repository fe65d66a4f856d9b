"""Parts: the text files of the corpus, `SS-NNNNN.jsonl.zst` with one {"id", "source", "text"} per line.

SS is the position of the source in the config, so a part never mixes sources. Each part is one zstd frame with a
checksum, written as a draft and renamed when complete.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

import zstandard

from pipeline.errors import DataError
from pipeline.runtime.files import write_bytes

# Of text. A part is the unit of work of the later stages: small enough that a few are in memory at once, and that all
# workers stay busy to the end.
PART_BYTES = 16_000_000
REMEDY = "Delete the folder of the corpus artifact and run stage corpus again."


class Document(TypedDict):
    """One line of a part; `source` is the name of the source in the config."""

    id: str
    source: str
    text: str


def document_line(document: Document) -> bytes:
    """The document as one JSON line. Raises UnicodeEncodeError for text that UTF-8 cannot hold."""
    # Not escaped to ASCII: other scripts would take up to three times the space, and people read these files.
    return json.dumps(document, ensure_ascii=False).encode() + b"\n"


def read_part(path: Path) -> Iterator[Document]:
    """The documents of one part, in order. Raises DataError if the part is damaged or truncated."""
    try:
        lines = zstandard.ZstdDecompressor().decompress(path.read_bytes()).split(b"\n")
    except zstandard.ZstdError as error:
        raise DataError(f"The corpus part {path} is damaged ({error}).", remedy=REMEDY) from None
    # Split at \n only: splitlines would also cut at U+2028 and others, which JSON leaves unescaped.
    return map(json.loads, lines[:-1])


def part_paths(folder: Path, split: str, index: int | None = None) -> list[Path]:
    """Finished parts of `split` in order, of the source number `index` or of all sources."""
    return sorted((folder / split).glob("*.jsonl.zst" if index is None else f"{index:02d}-*.jsonl.zst"))


def remove_parts(folder: Path, split: str, index: int) -> None:
    """Delete what an interrupted run left of a source in one split, drafts included."""
    # Parts are numbered anew from 0, so a left-over part with a higher number would count as finished.
    for path in (folder / split).glob(f"{index:02d}-*"):
        path.unlink()


class PartWriter:
    """Writes the documents of source number `index` in one split, as parts of about PART_BYTES of text each."""

    def __init__(self, folder: Path, index: int) -> None:
        self.folder, self.index = folder, index
        self.num_parts = 0
        self._lines: list[bytes] = []
        self._held_bytes = 0

    def add(self, line: bytes) -> None:
        """Append a document line as `document_line` makes it."""
        self._lines.append(line)
        self._held_bytes += len(line)
        if self._held_bytes >= PART_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is held as one part, unless nothing is held."""
        if not self._lines:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        compressed = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(b"".join(self._lines))
        write_bytes(self.folder / f"{self.index:02d}-{self.num_parts:05d}.jsonl.zst", compressed)
        self.num_parts += 1
        self._lines, self._held_bytes = [], 0
