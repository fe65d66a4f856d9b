"""From stored bytes to text: byte-order marks, encodings, and the one way in which newlines are written.

A byte-order mark always wins; then bytes that are valid UTF-8 are UTF-8; then the config's `encoding` says. Why in this
order: docs/decisions/encodings.md. The target and the corpus both come through here, so that they are spelt alike.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain

# UTF-32's first, because its little-endian mark begins with that of UTF-16. These codecs remove the mark they find.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
HEAD_BYTES = 4_096  # enough to see a mark, or that every second byte is zero
ZERO_SHARE = 0.2  # of the bytes; text in UTF-16 has up to half, text in any encoding with one byte a letter none
GUESS_BYTES = 100_000
# Where few bytes are beyond ASCII, a Western European language is likely; where many are, another script.
FEW_BEYOND_ASCII = 0.15
OTHER_SCRIPTS = ("cp1251", "koi8-r", "shift_jis", "gb18030", "big5", "euc_kr", "cp1253", "cp1256")

# Control characters are single bytes below 0x80, and UTF-8 uses those for nothing else: they can be deleted bytewise.
CONTROLS = bytes(code for code in (*range(32), 127) if chr(code) not in "\n\t")
BYTE_ORDER_MARK = "\ufeff"


class Undecodable(Exception):
    """Bytes that are no text in the encoding they should have; `guesses` are encodings in which they are."""

    def __init__(self, detail: str, guesses: tuple[str, ...]) -> None:
        super().__init__(detail)
        self.detail, self.guesses = detail, guesses


def normalised(text: str) -> bytes:
    r"""UTF-8 with newlines as \n, without a byte-order mark, and no control characters but tab.

    Raises UnicodeEncodeError for half of a surrogate pair.
    """
    data = text.removeprefix(BYTE_ORDER_MARK).encode()
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").translate(None, CONTROLS)


def decoded(data: bytes, encoding: str | None) -> str:
    """The text of a whole document. `encoding` is for what has no mark and is no UTF-8. Raises Undecodable."""
    # UTF-8 first, because that is nearly everything; bytes with the mark of UTF-16 or UTF-32 are never valid UTF-8.
    if not looks_wide(data):
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            pass
    marked = marked_encoding(data)
    if marked is not None and marked != "utf-8-sig":
        return _decoded(data, marked)
    if encoding is not None and keeps_ascii(encoding):
        return _decoded(data, encoding)
    raise _undecodable(data, "utf-8")


def decoded_file(data: bytes, encoding: str | None) -> str:
    """As `decoded`, for all bytes of a file: `encoding` may also be one in which ASCII is no ASCII, like UTF-16."""
    if marked_encoding(data) is None and encoding is not None and not keeps_ascii(encoding):
        return _decoded(data, encoding)
    return decoded(data, encoding)


def transcoded(pieces: Iterable[bytes], encoding: str | None, *, strict: bool = False) -> Iterator[bytes]:
    """The pieces of a file, as UTF-8 where it is stored in UTF-16, UTF-32 or an encoding that does not keep ASCII.

    All others pass as they are, to be split at newlines and decoded document by document; `strict` turns those of
    `encoding` into UTF-8 too. Raises Undecodable where the stream is not what its mark or `encoding` says.
    """
    rest = iter(pieces)
    head = b""
    for piece in rest:
        head += piece
        if len(head) >= HEAD_BYTES:
            break
    source = marked_encoding(head) or (encoding if encoding and (strict or not keeps_ascii(encoding)) else None)
    if source is None and looks_wide(head):
        raise _undecodable(head, "utf-8")
    whole = chain((head,), rest)
    if source is None:
        yield from whole
    elif source == "utf-8-sig":
        yield head.removeprefix(codecs.BOM_UTF8)
        yield from rest
    else:
        yield from _as_utf8(whole, source)


def _as_utf8(pieces: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    before = 0
    for piece in chain(pieces, (b"",)):
        held = len(decoder.getstate()[0])
        try:
            text = decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            raise _undecodable(error.object, encoding, error, before - held) from None
        before += len(piece)
        yield text.encode()


def marked_encoding(data: bytes) -> str | None:
    """The encoding that a byte-order mark at the beginning names."""
    return next((encoding for mark, encoding in MARKS if data.startswith(mark)), None)


def looks_wide(data: bytes) -> bool:
    """Whether so many bytes are zero that this must be UTF-16 or UTF-32 without a mark."""
    return data.count(0, 0, HEAD_BYTES) > ZERO_SHARE * min(len(data), HEAD_BYTES)


@lru_cache
def keeps_ascii(encoding: str) -> bool:
    """Whether ASCII bytes are ASCII in it, so that lines may be split before they are decoded."""
    ascii_bytes = bytes(range(128))
    try:
        return ascii_bytes.decode(encoding) == ascii_bytes.decode("ascii")
    except UnicodeDecodeError:
        return False


@lru_cache
def has_one_byte_a_character(encoding: str) -> bool:
    """Whether no character is stored in several bytes, one of which could look like a quotation mark or a bracket."""
    return encoding == "utf-8" or len(bytes(range(256)).decode(encoding, "replace")) == 256


def likely_encodings(data: bytes) -> tuple[str, ...]:
    """Encodings in which bytes that are no UTF-8 may be meant, the likeliest first; a guess, for a message."""
    if looks_wide(data):
        return (_wide_encoding(data),)
    beyond = len(data) - len(data.translate(None, bytes(range(128, 256))))
    candidates = ("cp1252", "latin-1") if beyond <= FEW_BEYOND_ASCII * len(data) else OTHER_SCRIPTS
    # Cut anywhere, a character of several bytes may be cut too, so the last few bytes do not count.
    fitting = tuple(name for name in candidates if _decodes(data, name))
    return fitting[:1] if candidates[0] == "cp1252" else fitting[:4]


def _wide_encoding(data: bytes) -> str:
    zeros = [data[start::4].count(0) for start in range(4)]
    if sum(zeros) > len(data) * 0.6:
        return "utf-32-le" if zeros[3] > zeros[0] else "utf-32-be"
    return "utf-16-le" if zeros[1] + zeros[3] > zeros[0] + zeros[2] else "utf-16-be"


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)().decode(data)
    except UnicodeDecodeError:
        return False
    return True


def _decoded(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise _undecodable(data, encoding, error) from None


def _undecodable(data: bytes, encoding: str, error: UnicodeDecodeError | None = None, before: int = 0) -> Undecodable:
    """What is wrong at which byte, and, if it should have been UTF-8, what it may be instead."""
    if error is None:
        try:
            data.decode(encoding)
        except UnicodeDecodeError as found:
            error = found
    position = error.start if error else data.index(0)
    place = f"byte {before + position:,} is 0x{data[position]:02x}" if position < len(data) else "it ends too early"
    if encoding != "utf-8":
        return Undecodable(f"{place}, not {encoding}", ())
    begin = 0 if position < GUESS_BYTES else position
    guesses = likely_encodings(data[begin : begin + GUESS_BYTES])
    reads = f"; reads as {' or '.join(guesses)}" if guesses else ""
    return Undecodable(f"{place}{reads}", guesses)
