"""Where the byte-level pre-tokenizer of GPT-2 cuts text, computed for megabytes at once.

Byte-pair encoding merges within pieces only, and text repeats its pieces: of a hundred, ninety-seven were seen before.
Cutting whole arrays and encoding each distinct piece once is therefore several times faster than a regular expression
and a merge per piece; `tests/bench/bench_encoding.py` measures it.

GPT-2's rule is the regular expression

    's|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+

In other words: a run of letters, of numbers, of whitespace or of other characters is a piece. The last character of a
whitespace run before anything else leaves the run: a space begins the piece that follows, another one is a piece of its
own. A lone apostrophe that begins a piece takes one of seven endings with it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

LETTER, NUMBER, OTHER, WHITESPACE, HEAD, UNKNOWN = range(6)  # kinds of characters; a HEAD begins a document
SPACE, APOSTROPHE = b" '"
CONTINUATION = np.uint8(0x80)  # bytes 0x80 ... 0xBF continue a character, 0xC0 and above begin a longer one
MAX_KNOWN = 1_000_000  # distinct pieces remembered, about 200 bytes each


class Cutter:
    """Cuts UTF-8 into pieces. What a letter is differs between Unicode versions, so the pre-tokenizer itself is asked.

    `cut` gives the pieces of a text; each character is asked about once.
    """

    def __init__(self, cut: Callable[[str], Sequence[object]]) -> None:
        self._cut = cut
        self._kind_of_point = np.full(0x110000, UNKNOWN, np.uint8)
        self._learn(np.arange(0x80))
        self._kind_of_byte = np.full(0x100, UNKNOWN, np.uint8)
        self._kind_of_byte[:0x80] = self._kind_of_point[:0x80]

    def starts(self, utf8: NDArray[np.uint8], heads: NDArray[np.int64]) -> NDArray[np.int64]:
        """Offsets at which a piece begins. `heads` are the offsets of one-byte marks, each before a document."""
        kinds = self._kinds(utf8)
        kinds[heads] = HEAD
        begins = np.ones(len(utf8), bool)
        np.not_equal(kinds[1:], kinds[:-1], out=begins[1:])
        begins[heads] = True
        _lend_spaces(utf8, kinds, begins)
        _attach_endings(utf8, begins)
        return np.flatnonzero(begins)

    def _kinds(self, utf8: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The kind of each byte's character."""
        kinds = self._kind_of_byte[utf8]
        leads = np.flatnonzero(utf8 >= 0xC0)
        if len(leads):
            points, lengths = _code_points(utf8, leads)
            found = self._kind_of_point[points]
            if (unknown := found == UNKNOWN).any():
                self._learn(np.unique(points[unknown]))
                found = self._kind_of_point[points]
            for place in range(4):
                longer = lengths > place
                kinds[leads[longer] + place] = found[longer]
        return kinds

    def _learn(self, points: NDArray[np.integer]) -> None:
        """Ask for the kind of characters: one that continues a run of a kind is of that kind."""
        for point in points.tolist():
            continued = (kind for kind, run in ((LETTER, "a"), (NUMBER, "1"), (OTHER, "!")) if self._one(run, point))
            self._kind_of_point[point] = next(continued, WHITESPACE)

    def _one(self, run: str, point: int) -> bool:
        return len(self._cut(run + chr(point))) == 1


def _code_points(utf8: NDArray[np.uint8], leads: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The characters that begin at `leads`, and their lengths in bytes (2 to 4)."""
    first = utf8[leads]
    lengths = 2 + (first >= 0xE0) + (first >= 0xF0).astype(np.int64)
    points = (first & (0xFF >> (lengths + 1))).astype(np.int64)
    for place in range(1, 4):
        longer = lengths > place
        points[longer] = points[longer] << 6 | utf8[leads[longer] + place] & 0x3F
    return points, lengths


def _lend_spaces(utf8: NDArray[np.uint8], kinds: NDArray[np.uint8], begins: NDArray[np.bool_]) -> None:
    """Take the last character off each whitespace run that text follows; a space begins the piece that follows."""
    last = np.flatnonzero((kinds[:-1] == WHITESPACE) & (kinds[1:] < WHITESPACE))
    begins[last + 1] = utf8[last] != SPACE
    for _ in range(2):  # no whitespace character is longer than three bytes
        last = last - ((utf8[last] & 0xC0) == CONTINUATION)
    begins[last] = True


def _attach_endings(utf8: NDArray[np.uint8], begins: NDArray[np.bool_]) -> None:
    """Join 's 't 'm 'd 're 've 'll where the apostrophe begins a piece; letters that follow begin a new one."""
    ended = np.append(utf8, np.zeros(3, np.uint8))
    places = np.flatnonzero(utf8 == APOSTROPHE)
    places = places[begins[places]]
    first, second = ended[places + 1], ended[places + 2]
    short = np.isin(first, np.frombuffer(b"stmd", np.uint8))
    long = (second == ord("e")) & ((first == ord("r")) | (first == ord("v"))) | (first == ord("l")) & (second == first)
    for joined, length in ((places[short], 2), (places[long], 3)):
        begins[joined + 1] = False
        after = joined + length
        begins[after[after < len(utf8)]] = True


class PieceIds:
    """The token ids of pieces; `encode` is asked once for each distinct piece."""

    def __init__(
        self, encode: Callable[[str], Sequence[int]], end_of_text: int, dtype: np.dtype[np.unsignedinteger]
    ) -> None:
        self._encode, self._end_of_text, self._dtype = encode, end_of_text, dtype
        self._forget()

    def _forget(self) -> None:
        # Ids of all known pieces, one after another; piece number 0 is the mark at the head of a document.
        self._ids = array(self._dtype.char, [self._end_of_text])
        self._ends = array("i", [0, 1])
        self._numbers: dict[str, int] = {}

    def rows(
        self, utf8: NDArray[np.uint8], starts: NDArray[np.int64], heads: NDArray[np.int64]
    ) -> tuple[NDArray[np.unsignedinteger], NDArray[np.int64]]:
        """All ids, and where each document's row begins in them (one offset more than documents)."""
        offsets = pa.py_buffer(np.append(starts, len(utf8)).astype(np.int32))
        pieces = pa.StringArray.from_buffers(len(starts), offsets, pa.py_buffer(utf8)).dictionary_encode()
        numbers = self._known(pieces.dictionary.to_pylist())[pieces.indices.to_numpy()]
        marks = np.searchsorted(starts, heads)
        numbers[marks] = 0
        ends, ids = np.frombuffer(self._ends, np.int32), np.frombuffer(self._ids, self._dtype)
        rows = pa.ListArray.from_arrays(pa.array(ends), pa.array(ids)).take(pa.array(numbers))
        return rows.values.to_numpy(), np.append(rows.offsets.to_numpy()[marks], len(rows.values)).astype(np.int64)

    def _known(self, pieces: list[str]) -> NDArray[np.int32]:
        """The number of each piece; new ones are encoded."""
        if len(self._numbers) > MAX_KNOWN:
            self._forget()
        for piece in pieces:
            if piece not in self._numbers:
                self._numbers[piece] = len(self._ends) - 1
                self._ids.extend(self._encode(piece))
                self._ends.append(len(self._ids))
        return np.fromiter(map(self._numbers.__getitem__, pieces), np.int32, len(pieces))
