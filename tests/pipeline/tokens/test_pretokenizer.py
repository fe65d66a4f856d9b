"""Where pieces begin, against worked examples and the regular expression of the `tokenizers` library.

That the ids are those of `tokenizers` for whole texts of all scripts is tested in test_tokenizer.py.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from pipeline.tokens import pretokenizer
from pipeline.tokens.pretokenizer import PieceEncoder, PreTokenizer

REFERENCE = pre_tokenizers.ByteLevel(add_prefix_space=False)
# Characters that the rule is about, and neighbours of each length in UTF-8.
TRICKY = "abstlrvedm'' \n\t\u00a0\u2003\u3000\u0085\u00e9\u6f22\U0001f642\u0663\u00bd9!"


def pieces_of(documents: list[str]) -> list[str]:
    """The pieces of all documents, each after its mark."""
    texts = [b"\0" + document.encode() for document in documents]
    utf8 = np.frombuffer(b"".join(texts), np.uint8)
    marks = np.cumsum([0] + [len(text) for text in texts[:-1]])
    starts = PreTokenizer(REFERENCE.pre_tokenize_str).starts(utf8, marks)
    return [bytes(utf8[start:stop]).decode() for start, stop in pairwise([*starts.tolist(), len(utf8)])]


def pieces_by_reference(document: str) -> list[str]:
    return [document[start:stop] for _, (start, stop) in REFERENCE.pre_tokenize_str(document)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("it's we've", ["it", "'s", " we", "'ve"]),
        ("'tis 'sing", ["'t", "is", " '", "sing"]),
        ("ha''s I'D x're", ["ha", "''", "s", " I", "'", "D", " x", "'re"]),
        ("a  b\n\nc \n d", ["a", " ", " b", "\n", "\n", "c", " \n", " d"]),
        ("end   ", ["end", "   "]),
        ("a1 22!? x", ["a", "1", " 22", "!?", " x"]),
        ("é\u2003\u2003漢", ["é", "\u2003", "\u2003", "漢"]),
        ("'", ["'"]),
        ("'l", ["'", "l"]),
        ("", []),
    ],
)
def test_pieces_by_hand(text: str, expected: list[str]) -> None:
    assert pieces_of([text]) == ["\0", *expected]


@given(documents=st.lists(st.text(st.sampled_from(TRICKY), max_size=30), min_size=1, max_size=3))
def test_pieces_are_those_of_the_reference_and_end_with_their_document(documents: list[str]) -> None:
    expected = [piece for document in documents for piece in ("\0", *pieces_by_reference(document))]
    assert pieces_of(documents) == expected


def test_character_is_asked_about_once() -> None:
    """A character costs up to three questions, one per category, the first time and none later."""
    asked: list[str] = []

    def counting(text: str) -> list[object]:
        asked.append(text)
        return list(REFERENCE.pre_tokenize_str(text))

    cutter = PreTokenizer(counting)
    utf8 = np.frombuffer("\0\u6f22\u6f22 \u6f22".encode(), np.uint8)
    asked.clear()
    for _ in range(2):
        cutter.starts(utf8, np.array([0]))
    assert asked == ["a\u6f22"]


def test_distinct_piece_is_encoded_once_until_too_many_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretokenizer, "MAX_KNOWN", 3)
    asked: list[str] = []

    def encode(piece: str) -> list[int]:
        asked.append(piece)
        return [len(piece)] * 2

    encoder = PieceEncoder(encode, end_of_text=9, dtype=np.dtype(np.uint16))

    def rows(*words: str) -> tuple[list[int], list[int]]:
        """One document whose pieces are `words`."""
        ends = np.cumsum([1] + [len(word) for word in words])
        utf8 = np.frombuffer(("\0" + "".join(words)).encode(), np.uint8)
        ids, offsets = encoder.rows(utf8, np.array([0, *ends[:-1]]), np.array([0]))
        return ids.tolist(), offsets.tolist()

    assert rows("be", "a", "be") == ([9, 2, 2, 1, 1, 2, 2], [0, 7])
    assert asked == ["\0", "be", "a"]
    assert rows("be", "see") == ([9, 2, 2, 3, 3], [0, 5])
    assert asked == ["\0", "be", "a", "see"]
    # Four pieces are known, more than three: all are forgotten before the next text.
    assert rows("be") == ([9, 2, 2], [0, 3])
    assert asked == ["\0", "be", "a", "see", "\0", "be"]


def test_large_ids_take_four_bytes() -> None:
    pieces = PieceEncoder(lambda piece: [70_000 + len(piece)], end_of_text=3, dtype=np.dtype(np.uint32))
    ids, offsets = pieces.rows(np.frombuffer(b"\0abab", np.uint8), np.array([0, 1, 3]), np.array([0]))
    assert (ids.tolist(), offsets.tolist(), ids.dtype) == ([3, 70_002, 70_002], [0, 3], np.uint32)
