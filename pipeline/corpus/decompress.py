"""Bytes of a file, decompressed piece by piece, with damage noticed where the usual readers end silently."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
import zstandard

from pipeline.corpus.http_file import WebFile

PLAIN_PIECE = 1 << 20
COMPRESSED_PIECE = 1 << 13  # zstd expands a byte to at most 32 kB, so what one piece becomes is bounded
WEB_BUFFER = 1 << 20


class FileDamage(Exception):
    """A file ends early or is not what its name says; documents before the damage are good."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def open_binary(address: str) -> BinaryIO:
    """A local path, an http(s) address, or any other address that fsspec knows, for reading."""
    if address.startswith(("http://", "https://")):
        return io.BufferedReader(WebFile(address), WEB_BUFFER)
    if "://" in address:
        return cast(BinaryIO, fsspec.open(address, "rb").open())
    return Path(address).open("rb")


def decompressed(file: BinaryIO, name: str) -> Iterator[bytes]:
    """The content of `file` in pieces; `name` ends in .zst, .gz or neither. Frames and gzip members are joined.

    Raises FileDamage, after the last good piece, if the file is empty, truncated or corrupt.
    """
    if name.endswith(".zst"):
        yield from _frames(file, lambda: zstandard.ZstdDecompressor().decompressobj())
    elif name.endswith(".gz"):
        yield from _frames(file, lambda: zlib.decompressobj(wbits=31))
    else:
        yield from _plain(file)


def _plain(file: BinaryIO) -> Iterator[bytes]:
    empty = True
    while piece := file.read(PLAIN_PIECE):
        empty = False
        yield piece
    if empty:
        raise FileDamage("empty_file", "the file has no bytes")


def _frames(file: BinaryIO, new_decompressor: Callable[[], Any]) -> Iterator[bytes]:
    decompressor = None
    while piece := file.read(COMPRESSED_PIECE):
        while piece:
            if decompressor is None or decompressor.eof:
                decompressor = new_decompressor()
            try:
                content = decompressor.decompress(piece)
            except (zstandard.ZstdError, zlib.error) as error:
                raise FileDamage("corrupt_file", str(error)) from None
            yield content
            piece = decompressor.unused_data if decompressor.eof else b""
    if decompressor is None:
        raise FileDamage("empty_file", "the file has no bytes")
    if not decompressor.eof:
        raise FileDamage("truncated_file", "the file ends in the middle of its compressed data")
