from __future__ import annotations

import gzip
import io
from pathlib import Path

import psutil
import pytest
import zstandard

from pipeline.corpus.decompress import (
    LARGEST_WINDOW_BYTES,
    FileDamage,
    announced_window,
    decompressed,
    open_binary,
)

TEXT = b"".join(b"line %d of a text that compresses\n" % number for number in range(20_000))
COMPRESS = {"a.zst": zstandard.ZstdCompressor(write_checksum=True).compress, "a.gz": gzip.compress}


def read(content: bytes, name: str) -> bytes:
    return b"".join(decompressed(io.BytesIO(content), name))


@pytest.mark.parametrize("name", COMPRESS)
def test_content_comes_back(name: str) -> None:
    assert read(COMPRESS[name](TEXT), name) == TEXT


@pytest.mark.parametrize("name", COMPRESS)
def test_joined_frames_are_all_read(name: str) -> None:
    assert read(COMPRESS[name](TEXT) + COMPRESS[name](b"more"), name) == TEXT + b"more"


@pytest.mark.parametrize("name", COMPRESS)
@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.999])
def test_a_cut_anywhere_is_noticed_and_what_came_before_is_kept(name: str, share: float) -> None:
    compressed = COMPRESS[name](TEXT)
    pieces: list[bytes] = []
    with pytest.raises(FileDamage) as damage:
        pieces.extend(decompressed(io.BytesIO(compressed[: int(len(compressed) * share)]), name))
    assert damage.value.reason == "truncated_file"
    assert TEXT.startswith(b"".join(pieces))


def test_second_frame_cut_is_noticed() -> None:
    whole = COMPRESS["a.zst"](TEXT)
    with pytest.raises(FileDamage, match="middle"):
        read(whole + whole[:-5], "a.zst")


@pytest.mark.parametrize("name", COMPRESS)
def test_flipped_bit_is_noticed(name: str) -> None:
    compressed = bytearray(COMPRESS[name](TEXT))
    compressed[len(compressed) // 2] ^= 4
    with pytest.raises(FileDamage):
        read(bytes(compressed), name)


@pytest.mark.parametrize("name", [*COMPRESS, "a.jsonl"])
def test_file_without_a_byte_is_damage(name: str) -> None:
    with pytest.raises(FileDamage) as damage:
        read(b"", name)
    assert damage.value.reason == "empty_file"


@pytest.mark.parametrize("name", COMPRESS)
@pytest.mark.parametrize("zeros", [1, 511, 512, 100_000])
def test_zeros_after_the_end_are_padding(name: str, zeros: int) -> None:
    whole = COMPRESS[name](TEXT)
    assert read(whole + bytes(zeros), name) == TEXT
    assert read(whole + bytes(zeros) + COMPRESS[name](b"more") + bytes(zeros), name) == TEXT + b"more"


def test_skippable_frames_of_zstd_are_skipped() -> None:
    skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00meta"
    assert read(skippable + COMPRESS["a.zst"](TEXT) + skippable, "a.zst") == TEXT


@pytest.mark.parametrize("name", COMPRESS)
def test_garbage_after_the_end_is_named_and_what_came_before_is_kept(name: str) -> None:
    pieces: list[bytes] = []
    with pytest.raises(FileDamage, match="after 1 whole frames") as damage:
        pieces.extend(decompressed(io.BytesIO(COMPRESS[name](TEXT) + bytes(9) + b"no archive, but text"), name))
    assert damage.value.reason == "corrupt_file"
    assert b"".join(pieces) == TEXT


def test_content_with_a_window_of_two_gigabytes_is_read_in_the_memory_that_it_needs() -> None:
    """As `zstd --long=31` writes a stream whose length it does not know."""
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=31, enable_ldm=False)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    archive = compressor.compress(TEXT) + compressor.flush()
    assert announced_window(archive) == LARGEST_WINDOW_BYTES
    before = psutil.Process().memory_info().rss
    assert read(archive, "a.zst") == TEXT
    assert psutil.Process().memory_info().rss - before < 100_000_000


def test_window_over_the_limit_is_named_with_its_cure_and_not_called_corrupt() -> None:
    window_of_4_gib = b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([22 << 3]) + b"\x01\x00\x00"
    with pytest.raises(
        FileDamage, match=r"more memory than the limit of 2,147,483,648 bytes.* zstd --long=27"
    ) as damage:
        read(window_of_4_gib, "a.zst")
    assert damage.value.reason == "large_window"


@pytest.mark.data
@pytest.mark.parametrize(("name", "lines"), [("zstd-long-window.jsonl.zst", 30), ("trailing-zeros.jsonl.gz", 12)])
def test_odd_archive_is_read_whole(data: Path, name: str, lines: int) -> None:
    with open_binary(str(data / "odd" / name)) as file:
        assert b"".join(decompressed(file, name)).count(b"\n") == lines
