from __future__ import annotations

import gzip
import io

import pytest
import zstandard

from pipeline.corpus.decompress import FileDamage, decompressed, open_binary

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
    pieces = []
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


def test_addresses_of_other_file_systems_go_through_fsspec() -> None:
    import fsspec

    fsspec.filesystem("memory").pipe("/folio-test", b"from memory")
    with open_binary("memory://folio-test") as file:
        assert file.read() == b"from memory"
