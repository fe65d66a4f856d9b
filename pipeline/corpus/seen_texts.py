"""Exact deduplication: the digests of all texts that a corpus has kept so far."""

from __future__ import annotations

import hashlib


def text_digest(text: bytes) -> bytes:
    """16 bytes that identify a cleaned text: texts with equal digests are duplicates."""
    # 128 bits: among a billion documents a chance collision has a probability of about 1e-21.
    return hashlib.blake2b(text, digest_size=16).digest()


class SeenTexts:
    """Which texts were kept, over all sources: a set of digests, about 100 bytes of memory per document."""

    def __init__(self) -> None:
        self._digests: set[bytes] = set()

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._digests

    def add(self, digest: bytes) -> None:
        self._digests.add(digest)

    def add_text(self, text: str) -> None:
        """Count a kept document's text as seen."""
        self.add(text_digest(text.encode()))
