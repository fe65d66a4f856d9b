"""GPT-2's byte-level pre-tokenizer, computed for megabytes at once, and the token ids of the pieces it gives.

Byte-pair encoding merges within pieces only, and text repeats its pieces: of a hundred, ninety-seven were seen before.
Cutting whole arrays and encoding each distinct piece once is therefore several times faster than a regular expression
and a merge per piece; `tests/bench/bench_encoding.py` measures it.

GPT-2's rule (Radford et al., 2019, in encoder.py) is the regular expression

    's|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+

In other words: a run of letters, of numbers, of whitespace or of other characters is a piece. Where other text follows
a whitespace run, its last character leaves the run: a space begins the piece that follows, any other whitespace is a
piece by itself. An apostrophe that begins a piece takes one of seven contractions with it.

    "it's  we"   ->   "it" "'s" " " " we"
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

# Categories of characters. A MARK is the byte before each document: a category that no character has, so a piece never
# crosses it. WHITESPACE comes after the three that may take a space with them: `_pass_spaces_on` compares by order.
LETTER, NUMBER, OTHER, WHITESPACE, MARK, UNKNOWN = range(6)
SPACE, APOSTROPHE = b" '"
CONTINUATION = np.uint8(0x80)  # bytes 0x80 ... 0xBF continue a character, 0xC0 and above begin a longer one
MAX_KNOWN = 1_000_000  # distinct pieces remembered, about 200 bytes each


class PreTokenizer:
    """Finds where pieces begin in UTF-8 text. `pieces_of` gives the pieces of a string by the reference implementation.

    What a letter is differs between Unicode versions, and ids must be those of `tokenizers`. So the reference is asked
    about each character once, instead of Python's `unicodedata`.
    """

    def __init__(self, pieces_of: Callable[[str], Sequence[object]]) -> None:
        self._pieces_of = pieces_of
        self._category_of_point = np.full(0x110000, UNKNOWN, np.uint8)
        self._learn(np.arange(0x80))
        # ASCII bytes are characters. The others stay UNKNOWN here and are looked up by their code point.
        self._category_of_byte = np.full(0x100, UNKNOWN, np.uint8)
        self._category_of_byte[:0x80] = self._category_of_point[:0x80]

    def starts(self, utf8: NDArray[np.uint8], marks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Offsets at which a piece begins, ascending.

        utf8 (bytes,) valid UTF-8; marks (documents,) the offsets of one-byte marks, each before a document. A mark is a
        piece by itself.
        """
        categories = self._categories(utf8)
        categories[marks] = MARK
        begins = np.ones(len(utf8), bool)
        np.not_equal(categories[1:], categories[:-1], out=begins[1:])
        # Two marks in a row, around an empty document, are not one run.
        begins[marks] = True
        # Spaces first: whether an apostrophe begins a piece depends on whether a space was put before it.
        _pass_spaces_on(utf8, categories, begins)
        _attach_contractions(utf8, begins)
        return np.flatnonzero(begins)

    def _categories(self, utf8: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """For each byte, the category of its character."""
        categories = self._category_of_byte[utf8]
        leads = np.flatnonzero(utf8 >= 0xC0)
        # Most English text never gets here: a table lookup per byte is all it costs.
        if len(leads):
            points, lengths = _code_points(utf8, leads)
            of_points = self._category_of_point[points]
            if (unknown := of_points == UNKNOWN).any():
                self._learn(np.unique(points[unknown]))
                of_points = self._category_of_point[points]
            # All bytes of a character get its category, so that no piece begins inside it.
            for place in range(4):
                longer = lengths > place
                categories[leads[longer] + place] = of_points[longer]
        return categories

    def _learn(self, points: NDArray[np.integer]) -> None:
        """Ask for the category of code points: a character that continues a run of a category belongs to it."""
        runs = ((LETTER, "a"), (NUMBER, "1"), (OTHER, "!"))
        for point in points.tolist():
            matching = (category for category, run in runs if self._continues(run, point))
            # What continues none of the three is whitespace: the rule has no fourth category.
            self._category_of_point[point] = next(matching, WHITESPACE)

    def _continues(self, run: str, point: int) -> bool:
        return len(self._pieces_of(run + chr(point))) == 1


def _code_points(utf8: NDArray[np.uint8], leads: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The code points of the characters that begin at `leads`, and their lengths in bytes (2 to 4)."""
    first = utf8[leads]
    lengths = 2 + (first >= 0xE0) + (first >= 0xF0).astype(np.int64)
    # A lead byte is as many ones as the character has bytes, a zero, then bits of the code point.
    points = (first & (0xFF >> (lengths + 1))).astype(np.int64)
    for place in range(1, 4):
        longer = lengths > place
        points[longer] = points[longer] << 6 | utf8[leads[longer] + place] & 0x3F
    return points, lengths


def _pass_spaces_on(utf8: NDArray[np.uint8], categories: NDArray[np.uint8], begins: NDArray[np.bool_]) -> None:
    """Cut the last character off each whitespace run that text follows; a space joins the piece that follows.

    Changes `begins` in place. This is `\\s+(?!\\S)` and the ` ?` of the rule.
    """
    last = np.flatnonzero((categories[:-1] == WHITESPACE) & (categories[1:] < WHITESPACE))
    begins[last + 1] = utf8[last] != SPACE
    # From the last byte of the whitespace character to its first: two steps at most, because none is longer than three.
    for _ in range(2):
        last = last - ((utf8[last] & 0xC0) == CONTINUATION)
    begins[last] = True


def _attach_contractions(utf8: NDArray[np.uint8], begins: NDArray[np.bool_]) -> None:
    """Join 's 't 'm 'd 're 've 'll where the apostrophe begins a piece; letters that follow begin a new one.

    Changes `begins` in place. An apostrophe after a space or another sign does not begin a piece, so " 's" is " '" "s",
    as the rule has it: its alternatives are tried from left to right at each position.
    """
    # Padded, so that an apostrophe at the end of the text has two bytes to look at as well.
    padded = np.append(utf8, np.zeros(3, np.uint8))
    places = np.flatnonzero(utf8 == APOSTROPHE)
    places = places[begins[places]]
    first, second = padded[places + 1], padded[places + 2]
    short = np.isin(first, np.frombuffer(b"stmd", np.uint8))
    long = (second == ord("e")) & ((first == ord("r")) | (first == ord("v"))) | (first == ord("l")) & (second == first)
    for joined, length in ((places[short], 2), (places[long], 3)):
        begins[joined + 1] = False
        after = joined + length
        begins[after[after < len(utf8)]] = True


class PieceEncoder:
    """The token ids of pieces. `encode` is asked once for each distinct piece and remembered, up to MAX_KNOWN.

    `dtype` is that of the ids; `end_of_text` is the id that a document's mark becomes.
    """

    def __init__(
        self, encode: Callable[[str], Sequence[int]], end_of_text: int, dtype: np.dtype[np.unsignedinteger]
    ) -> None:
        self._encode, self._end_of_text, self._dtype = encode, end_of_text, dtype
        self._forget()

    def _forget(self) -> None:
        # Ids of all known pieces, one after another; piece number 0 is the mark before a document.
        self._ids = array(self._dtype.char, [self._end_of_text])
        self._ends = array("i", [0, 1])
        self._numbers: dict[str, int] = {}

    def rows(
        self, utf8: NDArray[np.uint8], starts: NDArray[np.int64], marks: NDArray[np.int64]
    ) -> tuple[NDArray[np.unsignedinteger], NDArray[np.int64]]:
        """All ids, and where each document's row begins in them (one offset more than documents).

        `utf8` and `marks` as in `PreTokenizer.starts`, and `starts` what it gave for them; at most 2 GiB of text.
        """
        # Arrow finds the distinct pieces among millions in one pass, and without making a Python string of each.
        offsets = pa.py_buffer(np.append(starts, len(utf8)).astype(np.int32))
        pieces = pa.StringArray.from_buffers(len(starts), offsets, pa.py_buffer(utf8)).dictionary_encode()
        numbers = self._known(pieces.dictionary.to_pylist())[pieces.indices.to_numpy()]
        # A mark is a zero byte, which a document may contain as well: it is told apart by its place.
        mark_pieces = np.searchsorted(starts, marks)
        numbers[mark_pieces] = 0
        ends, ids = np.frombuffer(self._ends, np.int32), np.frombuffer(self._ids, self._dtype)
        # `take` on a list array puts the ids of all pieces one after another, copied in Arrow and not in a Python loop.
        rows = pa.ListArray.from_arrays(pa.array(ends), pa.array(ids)).take(pa.array(numbers))
        row_starts = np.append(rows.offsets.to_numpy()[mark_pieces], len(rows.values))
        return rows.values.to_numpy(), row_starts.astype(np.int64)

    def _known(self, pieces: list[str]) -> NDArray[np.int32]:
        """The number of each piece; new ones are encoded."""
        # Only between calls: numbers that were given out must stay valid until their ids are taken.
        if len(self._numbers) > MAX_KNOWN:
            self._forget()
        for piece in pieces:
            if piece not in self._numbers:
                self._numbers[piece] = len(self._ends) - 1
                self._ids.extend(self._encode(piece))
                self._ends.append(len(self._ids))
        return np.fromiter(map(self._numbers.__getitem__, pieces), np.int32, len(pieces))
