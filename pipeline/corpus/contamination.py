"""N-grams that a document shares with the target's validation text.

Convention: lower case, apostrophes deleted (straight and curly), every other character outside a-z and 0-9 a space,
then `words` consecutive words. docs/decisions/decontamination.md says why whole documents are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

from pipeline.corpus.parts import read_part

Ngram = tuple[bytes, ...]

CURLY_APOSTROPHES = ("\u2018".encode(), "\u2019".encode())
LETTERS = bytes(
    code + 32 if chr(code) in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" else code if bytes([code]).isalnum() else ord(" ")
    for code in range(256)
)


def normalised_words(text: bytes) -> list[bytes]:
    """The words of UTF-8 text by the convention above; about 15 ns a byte."""
    for apostrophe in CURLY_APOSTROPHES:
        text = text.replace(apostrophe, b"")
    return text.translate(LETTERS, b"'").split()


def ngrams(words: list[bytes], length: int) -> zip[Ngram]:
    """Every run of `length` consecutive words."""
    return zip(*(islice(words, start, None) for start in range(length)), strict=False)


@dataclass(frozen=True)
class Ngrams:
    """The distinct n-grams of one text, made to be looked for in many documents.

    Any `words` consecutive words of a document contain a whole block, if the document is cut every `block` =
    (words + 1) // 2 words. So only the blocks of a document are looked up, one in seven of its 13-grams, and only a
    document with a hit has all its n-grams compared.
    """

    words: int
    ngrams: frozenset[Ngram]
    blocks: frozenset[Ngram]

    @staticmethod
    def of(text: bytes, words: int) -> Ngrams:
        found = normalised_words(text)
        grams = frozenset(ngrams(found, words))
        block = (words + 1) // 2
        return Ngrams(words, grams, frozenset(ngrams(found, block)) if grams else frozenset())

    def shared_with(self, text: bytes) -> frozenset[Ngram]:
        """The distinct n-grams that UTF-8 text shares with this one."""
        found = normalised_words(text)
        block = (self.words + 1) // 2
        if self.blocks.isdisjoint(zip(*[iter(found)] * block, strict=False)):
            return frozenset()
        return self.ngrams.intersection(ngrams(found, self.words))


@lru_cache(maxsize=4)
def ngrams_of_file(path: Path, words: int) -> Ngrams:
    """The n-grams of a text file, built once per process."""
    return Ngrams.of(path.read_bytes(), words)


def ngrams_in_part(path: Path, words: int, part: Path) -> frozenset[Ngram]:
    """The distinct n-grams that the documents of a finished part share with the text file at `path`."""
    wanted = ngrams_of_file(path, words)
    return frozenset[Ngram]().union(*(wanted.shared_with(one["text"].encode()) for one in read_part(part)))
