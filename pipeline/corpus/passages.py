"""Passages: a piece at the end of a document, far enough from the rest that neither gives the other away."""

from __future__ import annotations

GAP_CHARACTERS = 400  # at least, between the rest and the passage; longer than any n-gram that is looked for
MARKS = ("\n\n", "\n", " ")


def cut(text: str, share: float, gap: int) -> tuple[str, str]:
    """The beginning of a text and a passage of about `share` of it at its end, with at least `gap` characters between.

    Both end and begin at a paragraph, a line or a word where there is one near. Either is empty if the text is short.
    """
    start = len(text) - max(round(share * len(text)), 1)
    # A tenth of the passage may go for a clean beginning.
    near = start + (len(text) - start) // 10
    start = _after(text, start, near)
    end = max(start - gap, 0)
    return text[: _before(text, end)].rstrip(), text[start:].strip()


def _after(text: str, start: int, limit: int) -> int:
    for mark in MARKS:
        found = text.find(mark, start, limit)
        if found >= 0:
            return found + len(mark)
    return start


def _before(text: str, end: int) -> int:
    for mark in MARKS:
        found = text.rfind(mark, max(end - GAP_CHARACTERS, 0), end)
        if found >= 0:
            return found
    return end
