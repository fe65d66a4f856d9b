"""The bytes of a file, decompressed piece by piece; a truncated or damaged file is always noticed."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
import zstandard

from pipeline.corpus.http_file import HttpFile

PLAIN_PIECE_BYTES = 1 << 20
COMPRESSED_PIECE_BYTES = 1 << 13  # zstd expands a byte to at most 32 kB, so a decompressed piece is bounded too
HTTP_BUFFER_BYTES = 1 << 20


class FileDamage(Exception):
    """A file ends early or is not what its name says; documents before the damage are good."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def open_binary(address: str) -> BinaryIO:
    """A local path, an http(s) address, or any other address that fsspec knows, for reading."""
    # Not through fsspec: HttpFile retries, and continues at the byte where a connection dropped.
    if address.startswith(("http://", "https://")):
        return io.BufferedReader(HttpFile(address), HTTP_BUFFER_BYTES)
    if "://" in address:
        return cast(BinaryIO, fsspec.open(address, "rb").open())
    return Path(address).open("rb")


def decompressed(file: BinaryIO, name: str) -> Iterator[bytes]:
    """The content of `file` in pieces; `name` ends in .zst, .gz or neither. Frames and gzip members are joined.

    Raises FileDamage, after the last good piece, if the file is empty, truncated or corrupt.
    """
    if name.endswith(".zst"):
        yield from _compressed_content(file, lambda: zstandard.ZstdDecompressor().decompressobj())
    elif name.endswith(".gz"):
        yield from _compressed_content(file, lambda: zlib.decompressobj(wbits=31))  # 31: a gzip header, 32 kB window
    else:
        yield from _plain_content(file)


def _plain_content(file: BinaryIO) -> Iterator[bytes]:
    empty = True
    while piece := file.read(PLAIN_PIECE_BYTES):
        empty = False
        yield piece
    if empty:
        raise FileDamage("empty_file", "the file has no bytes")


def _compressed_content(file: BinaryIO, new_decompressor: Callable[[], Any]) -> Iterator[bytes]:
    # By hand, because zstandard's stream_reader (0.25) ends without an error where a truncated file ends.
    decompressor = None
    while piece := file.read(COMPRESSED_PIECE_BYTES):
        while piece:
            if decompressor is None or decompressor.eof:
                decompressor = new_decompressor()
            try:
                content = decompressor.decompress(piece)
            except (zstandard.ZstdError, zlib.error) as error:
                raise FileDamage("corrupt_file", str(error)) from None
            yield content
            # What follows the end of one frame or member is the beginning of the next.
            piece = decompressor.unused_data if decompressor.eof else b""
    if decompressor is None:
        raise FileDamage("empty_file", "the file has no bytes")
    if not decompressor.eof:
        raise FileDamage("truncated_file", "the file ends in the middle of its compressed data")
