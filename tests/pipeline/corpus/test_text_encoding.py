from __future__ import annotations

import codecs

import pytest

from pipeline.corpus.text_encoding import (
    Undecodable,
    decoded,
    decoded_file,
    keeps_ascii,
    likely_encodings,
    normalised,
    transcoded,
)

TEXT = "\u201cCaf\u00e9\u201d \u2014 a text.\r\nAnd a line."
RUSSIAN = "".join(chr(code) for code in range(0x430, 0x450)) * 10
MARKED = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}


@pytest.mark.parametrize("name", MARKED)
@pytest.mark.parametrize("encoding", [None, "cp1252", "shift_jis"])
def test_a_byte_order_mark_says_the_encoding_whatever_the_config_says(name: str, encoding: str | None) -> None:
    data = MARKED[name] + TEXT.encode(name)
    assert normalised(decoded(data, encoding)) == normalised(TEXT)
    assert b"".join(transcoded([data[:1], data[1:7], data[7:]], encoding)).decode().removeprefix("\ufeff") == TEXT


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "cp037", "utf-7"])
def test_an_encoding_without_ascii_is_read_by_its_name(encoding: str) -> None:
    text = "Caf\u00e9, a text.\nAnd a line."
    data = text.encode(encoding)
    assert not keeps_ascii(encoding)
    assert decoded_file(data, encoding) == text
    assert b"".join(transcoded([data[:5], data[5:]], encoding)).decode() == text


def test_utf_8_is_read_beside_files_in_the_config_s_encoding() -> None:
    """A folder of both: as cp1252, the UTF-8 ones would turn to mojibake."""
    assert decoded(TEXT.encode(), "cp1252") == decoded(TEXT.encode("cp1252"), "cp1252") == TEXT
    assert list(transcoded([TEXT.encode("cp1252")], "cp1252")) == [TEXT.encode("cp1252")]
    assert b"".join(transcoded([TEXT.encode("cp1252")], "cp1252", strict=True)).decode() == TEXT


def test_undecodable_text_names_the_byte_its_place_and_an_encoding_that_reads_it() -> None:
    data = b"plain, then " + TEXT.encode("cp1252")
    with pytest.raises(Undecodable) as refusal:
        decoded(data, None)
    assert refusal.value.detail == "byte 12 is 0x93; reads as cp1252"
    assert decoded(data, refusal.value.guesses[0]) == "plain, then " + TEXT


def test_text_that_is_not_what_the_config_says_is_no_guess() -> None:
    with pytest.raises(Undecodable) as refusal:
        decoded(b"caf\xe9 \x81", "cp1252")
    assert (refusal.value.detail, refusal.value.guesses) == ("byte 5 is 0x81, not cp1252", ())


def test_place_of_a_bad_byte_counts_from_the_beginning_of_the_file() -> None:
    data = codecs.BOM_UTF16_LE + ("word " * 2_000).encode("utf-16-le") + b"\x00\xd8a\x00"
    pieces = [data[start : start + 5_001] for start in range(0, len(data), 5_001)]
    with pytest.raises(Undecodable, match=r"byte 20,002 is 0x00, not utf-16"):
        list(transcoded(pieces, None))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_text_without_a_mark_is_recognised(encoding: str) -> None:
    data = ("An English text. " * 20).encode(encoding)
    assert likely_encodings(data) == (encoding,)
    for read in (lambda: decoded(data, None), lambda: list(transcoded([data], None))):
        with pytest.raises(Undecodable, match=f"is 0x00; reads as {encoding}"):
            read()


def test_guesses_fit_the_share_of_bytes_beyond_ascii() -> None:
    assert likely_encodings(TEXT.encode("cp1252") * 9) == ("cp1252",)
    assert likely_encodings(b"caf\xe9 \x81 and ASCII around it, much of it") == ("latin-1",)
    assert "cp1251" in likely_encodings(RUSSIAN.encode("cp1251"))
    assert "koi8-r" in likely_encodings(RUSSIAN.encode("koi8-r"))


def test_normalised_text_has_one_kind_of_newline_and_no_mark() -> None:
    assert normalised("\ufeffa\r\nb\rc\n\x00\x07\td ") == b"a\nb\nc\n\td "
