from __future__ import annotations

import pytest

from pipeline.corpus.passages import GAP_CHARACTERS, cut

LINES = "".join(f"Line {number} of a text.\n" for number in range(1_000))
PARAGRAPHS = "".join(f"Paragraph {number} of a text, with some words.\n\n" for number in range(500))


@pytest.mark.parametrize("text", [LINES, PARAGRAPHS, "word " * 5_000, "x" * 20_000, "\u00e9" * 20_000])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("gap", [GAP_CHARACTERS, 1_000])
def test_passage_is_the_end_and_the_gap_belongs_to_neither(text: str, share: float, gap: int) -> None:
    beginning, passage = cut(text, share, gap)
    assert text.startswith(beginning)
    assert text.rstrip().endswith(passage)
    assert 0.85 * share * len(text) <= len(passage) <= share * len(text)
    between = len(text) - len(beginning) - len(passage)
    assert gap <= between <= 2 * gap + GAP_CHARACTERS


def test_both_sides_keep_whole_lines_and_paragraphs() -> None:
    beginning, passage = cut(LINES, 0.1, GAP_CHARACTERS)
    assert beginning.endswith("of a text.")
    assert passage.startswith("Line ")
    beginning, passage = cut(PARAGRAPHS, 0.1, GAP_CHARACTERS)
    assert beginning.endswith("words.")
    assert passage.startswith("Paragraph ")


def test_text_that_is_all_gap_has_no_beginning() -> None:
    assert cut("word " * 60, 0.1, GAP_CHARACTERS)[0] == ""
