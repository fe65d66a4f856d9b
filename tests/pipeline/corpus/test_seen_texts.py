from __future__ import annotations

from pipeline.corpus.seen_texts import SeenTexts, text_digest


def test_text_is_seen_after_it_was_added_in_either_form() -> None:
    seen = SeenTexts()
    assert text_digest("caf\u00e9".encode()) not in seen
    seen.add_text("caf\u00e9")
    assert text_digest("caf\u00e9".encode()) in seen
    seen.add(text_digest(b"tea"))
    assert text_digest(b"tea") in seen
    assert text_digest(b"Tea") not in seen


def test_digest_is_16_bytes_of_blake2b() -> None:
    """RFC 7693 defines BLAKE2b; this is `b2sum -l 128` of the text."""
    assert text_digest(b"abc").hex() == "cf4ab791c62b8d2b2109c90275287816"
