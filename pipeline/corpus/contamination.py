"""N-grams that a document shares with the target's validation text.

Convention: lower case, apostrophes deleted (straight and curly), every other character outside a-z and 0-9 a space,
then `ngram_words` consecutive words. docs/decisions/decontamination.md says why whole documents are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

from pipeline.corpus.parts import read_part

Ngram = tuple[bytes, ...]

CURLY_APOSTROPHES = ("\u2018".encode(), "\u2019".encode())
# One byte -> its letter, digit or a space. Bytes of non-ASCII characters become spaces: the target is English, and a
# table lookup per byte is far cheaper than Unicode's case folding.
LETTERS = bytes(
    code + 32 if chr(code) in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" else code if bytes([code]).isalnum() else ord(" ")
    for code in range(256)
)


def normalised_words(text: bytes) -> list[bytes]:
    """The words of UTF-8 text by the convention above; about 15 ns per byte."""
    # Before the table, which would turn them into spaces and cut "bridegroom's" in two.
    for apostrophe in CURLY_APOSTROPHES:
        text = text.replace(apostrophe, b"")
    return text.translate(LETTERS, b"'").split()


def ngrams(words: list[bytes], length: int) -> zip[Ngram]:
    """Every run of `length` consecutive words, in order."""
    return zip(*(islice(words, start, None) for start in range(length)), strict=False)


@dataclass(frozen=True)
class Ngrams:
    """The distinct n-grams of one text, indexed to be searched for in many documents.

    Cut a document into consecutive blocks of (ngram_words + 1) // 2 words: any `ngram_words` consecutive words of it
    then contain a whole block. So it is enough to look up a document's blocks, one lookup for every seven words at 13
    words, and only a document with a hit has all its n-grams compared.
    """

    ngram_words: int
    ngrams: frozenset[Ngram]
    blocks: frozenset[Ngram]  # of this text at every word offset, since its n-grams may start at any

    @staticmethod
    def of(text: bytes, ngram_words: int) -> Ngrams:
        words = normalised_words(text)
        grams = frozenset(ngrams(words, ngram_words))
        block_words = (ngram_words + 1) // 2
        # A text shorter than one n-gram has none to share, though it may have blocks.
        return Ngrams(ngram_words, grams, frozenset(ngrams(words, block_words)) if grams else frozenset())

    def shared_with(self, text: bytes) -> frozenset[Ngram]:
        """The distinct n-grams that UTF-8 text shares with this one."""
        words = normalised_words(text)
        block_words = (self.ngram_words + 1) // 2
        # The same iterator `block_words` times: zip takes consecutive, disjoint blocks from it, and drops a short rest.
        if self.blocks.isdisjoint(zip(*[iter(words)] * block_words, strict=False)):
            return frozenset()
        return self.ngrams.intersection(ngrams(words, self.ngram_words))


@lru_cache(maxsize=4)  # a worker judges thousands of documents against the same text
def ngrams_of_file(path: Path, ngram_words: int) -> Ngrams:
    """The n-grams of a text file, built once per process."""
    return Ngrams.of(path.read_bytes(), ngram_words)


def ngrams_in_part(text_file: Path, ngram_words: int, part: Path) -> frozenset[Ngram]:
    """The distinct n-grams that the documents of a finished part share with a text file."""
    wanted = ngrams_of_file(text_file, ngram_words)
    shared = (wanted.shared_with(document["text"].encode()) for document in read_part(part))
    return frozenset[Ngram]().union(*shared)
