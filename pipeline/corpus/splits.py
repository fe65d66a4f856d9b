"""Splits: what the target and the corpus are divided into, and which split a document of the corpus belongs to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

TARGET_SPLITS = ("train", "selection", "validation")
CORPUS_SPLITS = ("train", "validation")


def target_file(target: Path, split: str) -> Path:
    """The text file of a split below the folder of a target artifact."""
    return target / f"{split}.txt"


def target_text(target: Path, split: str) -> str:
    """The text of a split of the target."""
    # Bytes, not read_text: text mode would turn \r\n into \n, and the target's bytes are what is scored.
    return target_file(target, split).read_bytes().decode()


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
