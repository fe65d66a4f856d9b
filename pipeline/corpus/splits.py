"""Splits of the corpus, and which of them a document belongs to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

CORPUS_SPLITS = ("train", "validation")


@dataclass(frozen=True)
class SplitRule:
    """Assigns each document of the corpus to a split; `validation_share` of the documents are expected in validation.

    The text and the seed alone decide: not the source, the order of documents or what else is in the corpus. So a text
    stays in its split when sources are added or removed.
    """

    validation_share: float
    seed: int

    def split_of(self, digest: bytes) -> str:
        """The split of the text with this digest (`seen_texts.text_digest`)."""
        return "validation" if self.draw(digest) < self.validation_share * 2**64 else "train"

    def draw(self, digest: bytes) -> int:
        """The place of a text in the order in which texts are drawn for validation, below 2**64."""
        # Keyed, so that two seeds give unrelated splits; the digest alone would give every seed the same one.
        keyed = hashlib.blake2b(digest, digest_size=8, key=str(self.seed).encode()).digest()
        return int.from_bytes(keyed, "big")
