"""Which characters of a target train, choose and are scored: as the lecture has it; what chooses is like the rest."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.target_splits import (
    FEWEST_STRETCHES,
    SHORTEST_STRETCH,
    TARGET_SPLITS,
    TargetSplits,
    TooShort,
    read_splits,
    split_target,
    target_file,
    target_parts,
    target_text,
)
from pipeline.errors import DataError

PLAY = "".join(f"SPEAKER {number % 7}:\nA line of about forty characters, see.\n\n" for number in range(20_000))
SHARES = {"selection": 0.05, "validation": 0.1}


def test_tiny_shakespeare_is_cut_where_the_lecture_cuts_it() -> None:
    splits = split_target(["x" * 1_115_394], **SHARES)
    assert splits.refit == ((0, 1_003_854),)
    assert splits.validation == ((1_003_854, 1_115_394),)
    assert splits.characters("selection") == pytest.approx(55_769, abs=30)


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.text("ab \n", min_size=1, max_size=4000), min_size=1, max_size=400),
    selection=st.floats(0.02, 0.59),
    validation=st.floats(0.05, 0.4),
)
def test_every_character_has_one_use(texts: list[str], selection: float, validation: float) -> None:
    total = sum(map(len, texts))
    try:
        splits = split_target(texts, selection=selection, validation=validation)
    except TooShort as short:
        assert short.needed > total
        return
    scored = splits.characters("validation")
    assert splits.refit[0][0] == 0
    assert splits.refit[-1][1] == splits.validation[0][0] == total - scored
    assert sorted((*splits.train, *splits.selection)) == _joined_at(splits)
    # Parts of one document each.
    borders = [0]
    for text in texts:
        borders.append(borders[-1] + len(text))
    for split in TARGET_SPLITS:
        for start, end in splits.spans(split):
            assert start < end and not any(start < border < end for border in borders)


def _joined_at(splits: TargetSplits) -> list[tuple[int, int]]:
    """The refit text cut where the other two splits cut it."""
    ends = sorted({at for span in (*splits.train, *splits.selection, *splits.refit) for at in span})
    return list(pairwise(ends))


def test_selection_is_spread_evenly_and_away_from_the_validation_text() -> None:
    splits = split_target([PLAY], **SHARES)
    middles = [(start + end) / 2 for start, end in splits.selection]
    gaps = [after - before for before, after in pairwise(middles)]
    assert len(middles) == round(0.05 * len(PLAY) / 3000)
    assert max(gaps) < 1.2 * min(gaps)
    assert middles[0] < max(gaps)
    lengths = [end - start for start, end in splits.selection]
    assert min(lengths) > 1500 and max(lengths) < 4500
    assert splits.validation[0][0] - splits.selection[-1][1] >= 3000


def test_stretches_begin_and_end_at_blank_lines() -> None:
    for start, end in split_target([PLAY], **SHARES).selection:
        assert PLAY[start - 2 : start] == PLAY[end - 2 : end] == "\n\n"
        assert PLAY[start:].startswith("SPEAKER")


def test_a_single_blank_line_makes_no_stretch_empty() -> None:
    text = ("x" * 1000 + "\n\n") * 60
    assert min(end - start for start, end in split_target([text], **SHARES).selection) > 150


@pytest.mark.parametrize(
    ("text", "before"),
    [("one two three\n" * 5000, "\n"), ("one two three " * 5000, " "), ("x" * 60_000, "x")],
    ids=["lines", "words", "nothing to cut at"],
)
def test_without_blank_lines_the_next_best_place_is_taken(text: str, before: str) -> None:
    assert all(text[start - 1] == before for start, _ in split_target([text], **SHARES).selection)


def test_many_documents_are_split_between_them() -> None:
    messages = [f"message {number} " + "x" * (number % 90) + "\n" for number in range(4000)]
    splits = split_target(messages, **SHARES)
    text = "".join(messages)
    for split in TARGET_SPLITS:
        assert all(text[start:end] in messages for start, end in splits.spans(split))
    assert splits.characters("selection") == pytest.approx(0.05 * len(text), rel=0.02)
    assert splits.characters("validation") == pytest.approx(0.1 * len(text), abs=120)
    places = [start / splits.validation[0][0] for start, _ in splits.selection]
    assert max(after - before for before, after in pairwise([0.0, *places, 1.0])) < 0.02


def test_a_few_long_documents_are_split_inside() -> None:
    splits = split_target(["a b\n" * 10_000] * 12, **SHARES)
    assert len(splits.selection) >= FEWEST_STRETCHES
    assert len(splits.refit) == 11, "ten whole documents and a part"


def test_one_long_document_among_short_ones_is_split_inside() -> None:
    splits = split_target(["a b\n" * 100_000, *["short\n"] * 3000], **SHARES)
    assert splits.validation[0] == (376_200, 400_000), "the end of the long one, then the short ones"
    assert len(splits.selection) >= FEWEST_STRETCHES


@pytest.mark.parametrize("selection", [0.05, 0.2])
def test_a_text_that_is_too_short_is_refused_with_a_size_that_does(selection: float) -> None:
    with pytest.raises(TooShort) as refused:
        split_target(["x" * 200], selection=selection, validation=0.1)
    enough = refused.value.needed
    splits = split_target(["x" * enough], selection=selection, validation=0.1)
    assert len(splits.selection) == 2
    assert splits.characters("selection") == 2 * SHORTEST_STRETCH
    with pytest.raises(TooShort):
        split_target(["x" * (enough - 30)], selection=selection, validation=0.1)


def test_splits_are_read_back_as_text_byte_for_byte(tmp_path: Path) -> None:
    text = "caf\u00e9 \u2014\r\n\n" * 2000
    splits = split_target([text], **SHARES)
    splits.write(tmp_path, text)
    assert read_splits(tmp_path) == splits
    assert target_text(tmp_path, "refit") + target_text(tmp_path, "validation") == text
    for split in TARGET_SPLITS:
        assert target_parts(tmp_path, split) == [text[start:end] for start, end in splits.spans(split)]


def test_only_the_validation_split_opens_the_validation_text(tmp_path: Path) -> None:
    splits = split_target([PLAY], **SHARES)
    splits.write(tmp_path, PLAY)
    (tmp_path / "validation.txt").unlink()
    for split in ("train", "selection", "refit"):
        assert target_file(tmp_path, split) == tmp_path / "refit.txt"  # type: ignore[arg-type]
        assert target_text(tmp_path, split)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        target_text(tmp_path, "validation")


@pytest.mark.parametrize("content", ["", "{}", '{"train": 3}', "not json"])
def test_damaged_positions_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "splits.json").write_text(content)
    with pytest.raises(DataError, match=r"splits\.json is damaged .*Run stage target again"):
        read_splits(tmp_path)
