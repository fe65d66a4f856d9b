"""The bytes of a file, decompressed piece by piece; a truncated or damaged file is always noticed."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from pipeline.inputs.http_file import HttpFile

PLAIN_PIECE_BYTES = 1 << 20
COMPRESSED_PIECE_BYTES = 1 << 13  # zstd expands a byte to at most 32 kB, so a decompressed piece is bounded too
HTTP_BUFFER_BYTES = 1 << 20
# The largest that `zstd --long=31` writes and that the library reads. A reader needs as much memory as the window or
# the content has, whichever is less: address space is asked for at once, but only what is written to becomes resident.
LARGEST_WINDOW_BYTES = 1 << 31
FRAME_HEADER_BYTES = 18  # of zstd, at most
REPACK = "compress its content again, with zstd --long=27"


class FileDamage(Exception):
    """A file ends early or is not what its name says; documents before the damage are good.

    `hints` are what the file has instead: columns with the characters of their text, or encodings it may be in.
    """

    def __init__(self, reason: str, detail: str, hints: tuple[tuple[str, int], ...] = ()) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.hints = reason, detail, hints


def open_binary(address: str) -> BinaryIO:
    """A local path or an http(s) address, for reading."""
    if address.startswith(("http://", "https://")):
        return io.BufferedReader(HttpFile(address), HTTP_BUFFER_BYTES)
    return Path(address).open("rb")


def decompressed(file: BinaryIO, name: str) -> Iterator[bytes]:
    """The content of `file` in pieces; `name` ends in .zst, .gz or neither. Frames and gzip members are joined.

    Zeros after a frame or member are the padding of tapes and block devices, and no damage. Raises FileDamage, after
    the last good piece, if the file is empty, truncated or corrupt.
    """
    if name.endswith(".zst"):
        zstd = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW_BYTES)
        yield from _compressed_content(file, zstd.decompressobj)
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


def announced_window(beginning: bytes) -> int:
    """Bytes of memory that reading a zstd frame takes at most, by its header; 0 if these bytes do not tell."""
    try:
        header = zstandard.get_frame_parameters(beginning[:FRAME_HEADER_BYTES])
    except zstandard.ZstdError:
        return 0  # no frame, or cut within its header: decompressing says which
    return int(min(header.window_size, header.content_size))


def _compressed_content(file: BinaryIO, new_decompressor: Callable[[], Any]) -> Iterator[bytes]:
    # By hand, because zstandard's stream_reader (0.25) ends without an error where a truncated file ends.
    decompressor = None
    num_frames = 0
    while piece := file.read(COMPRESSED_PIECE_BYTES):
        while piece:
            if decompressor is None or decompressor.eof:
                # Neither a frame nor a member begins with a zero.
                piece = piece.lstrip(b"\0") if num_frames else piece
                if not piece:
                    break
                decompressor = new_decompressor()
            try:
                content = decompressor.decompress(piece)
            except (zstandard.ZstdError, zlib.error) as error:
                raise _corruption(error, num_frames) from None
            yield content
            # What follows the end of one frame or member is the beginning of the next.
            num_frames += decompressor.eof
            piece = decompressor.unused_data if decompressor.eof else b""
    if decompressor is None:
        raise FileDamage("empty_file", "the file has no bytes")
    if not decompressor.eof:
        raise FileDamage("truncated_file", "the file ends in the middle of its compressed data")


def _corruption(error: Exception, num_frames: int) -> FileDamage:
    if "memory" in str(error).lower():
        limit = f"the limit of {LARGEST_WINDOW_BYTES:,} bytes, or more than is free"
        return FileDamage("large_window", f"its window takes more memory than {limit} ({error}): {REPACK}")
    return FileDamage("corrupt_file", f"{error}{f', after {num_frames:,} whole frames' if num_frames else ''}")
