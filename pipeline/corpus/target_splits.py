"""Which characters of the target train, choose and are scored.

The lecture's split: the last `validation` share of the characters is scored, everything before it may be trained on.
What chooses learning rate and stopping is taken from that first part in many stretches, spread evenly over it, so that
it is like the rest of it: docs/decisions/choose-then-refit.md. A target of many documents is split between them.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import DataError
from pipeline.runtime.files import write_bytes, write_text

Split = Literal["train", "selection", "refit", "validation"]
TARGET_SPLITS: tuple[Split, ...] = get_args(Split)
Span = tuple[int, int]  # characters of the whole target, the end excluded

STRETCH_CHARACTERS = 3_000  # of selection text in one piece, where the text is long enough for so many of them
FEWEST_STRETCHES = 10
SHORTEST_STRETCH = 25  # characters
LEAST_SELECTION = 2 * SHORTEST_STRETCH  # characters; a text with less to choose on is refused
BREAKS = (re.compile(r"\n\s*\n"), re.compile(r"\n"), re.compile(r"\s"))  # a stretch ends at one, best first

SPLITS_FILE = "splits.json"
FILES = {"refit": "refit.txt", "validation": "validation.txt"}  # what may be trained on, and what is scored


class TooShort(ValueError):
    """The shares leave too little of a text; `needed` is how many characters would do."""

    def __init__(self, needed: int) -> None:
        super().__init__(f"at least {needed:,} characters are needed")
        self.needed = needed


class TargetSplits(BaseModel):
    """The parts of each split in order; a part belongs to one document and follows an end-of-text id in the shards.

    `train` and `selection` together are `refit`, and `validation` is what follows it.
    """

    model_config = ConfigDict(frozen=True)
    train: tuple[Span, ...]  # trials are trained on
    selection: tuple[Span, ...]  # chooses among them
    refit: tuple[Span, ...]  # what is reported is trained on
    validation: tuple[Span, ...]  # scored by the report

    def spans(self, split: Split) -> tuple[Span, ...]:
        spans: tuple[Span, ...] = getattr(self, split)
        return spans

    def characters(self, split: Split) -> int:
        return sum(end - start for start, end in self.spans(split))

    def write(self, target: Path, text: str) -> None:
        """Leave the texts and the positions in the folder of a target artifact."""
        cut = self.characters("refit")
        # Two files, so that whatever trains need not open the one with the validation text.
        for split, content in (("refit", text[:cut]), ("validation", text[cut:])):
            write_bytes(target / FILES[split], content.encode())
        write_text(target / SPLITS_FILE, json.dumps(self.model_dump()) + "\n")


def read_splits(target: Path) -> TargetSplits:
    """The splits of a target artifact. Raises DataError if its file is damaged."""
    path = target / SPLITS_FILE
    try:
        return TargetSplits.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path} is damaged ({reason}).", remedy="Run stage target again.") from None


def target_file(target: Path, split: Split) -> Path:
    """The file below the folder of a target artifact that holds the text of a split."""
    return target / FILES["validation" if split == "validation" else "refit"]


def target_parts(target: Path, split: Split) -> list[str]:
    """The text of each part of a split. Only "validation" opens the validation text."""
    splits = read_splits(target)
    # Bytes, not read_text: text mode would turn \r\n into \n, and the target's bytes are what is scored.
    text = target_file(target, split).read_bytes().decode()
    before = splits.characters("refit") if split == "validation" else 0
    return [text[start - before : end - before] for start, end in splits.spans(split)]


def target_text(target: Path, split: Split) -> str:
    """The text of a split, its parts one after the other."""
    return "".join(target_parts(target, split))


def split_target(documents: Sequence[str], *, selection: float, validation: float) -> TargetSplits:
    """Split the characters of all documents, one after the other; both shares are of all characters.

    Raises TooShort if the text is too short for selection stretches that say something.
    """
    borders = list(accumulate(map(len, documents), initial=0))
    characters = borders[-1]
    wanted = int(characters * selection)
    if wanted < LEAST_SELECTION:
        raise TooShort(math.ceil(LEAST_SELECTION / selection))
    # Rounded down, as the lecture's int(0.9 * n): its published losses are those of exactly these characters.
    cut = int(characters * (1 - validation))
    # Selection holds so many documents of mean length, and none is too long for it.
    if wanted * len(documents) >= FEWEST_STRETCHES * characters and max(map(len, documents)) <= wanted:
        cut = max((border for border in borders if border <= cut), default=0)
        stretches = _drawn_documents([border for border in borders if border <= cut], wanted)
    else:
        stretches = _stretches("".join(documents)[:cut], borders, wanted)
    edges = [0, *(at for stretch in stretches for at in stretch), cut]
    train = list(zip(edges[::2], edges[1::2], strict=True))
    return TargetSplits(
        train=_by_document(train, borders),
        selection=_by_document(stretches, borders),
        refit=_by_document([(0, cut)], borders),
        validation=_by_document([(cut, characters)], borders),
    )


def _drawn_documents(borders: Sequence[int], wanted: int) -> list[Span]:
    """Whole documents, spread evenly by position, that hold about so many characters together."""
    cut, drawn, taken = borders[-1], list[Span](), 0
    for start, end in pairwise(borders):
        # Whenever less was taken than is due, half of this document included; none right before the validation text.
        if taken + (end - start) / 2 <= wanted * (start + end) / 2 / cut and end + (end - start) <= cut:
            drawn.append((start, end))
            taken += end - start
    return drawn


def _stretches(text: str, borders: Sequence[int], wanted: int) -> list[Span]:
    """Stretches of equal length, about so many characters together, moved to the nearest blank lines."""
    count = max(round(wanted / STRETCH_CHARACTERS), min(FEWEST_STRETCHES, wanted // SHORTEST_STRETCH))
    length = min(wanted // count, len(text) // (count + 1))
    room = (len(text) - length) / count  # for each, with none within a stretch's length of the validation text
    # Moved by so little that a stretch keeps half of its length, neighbours stay apart, and the last its distance.
    most = int(min(length / 4, (room - length) / 2))
    stretches = []
    for number in range(count):
        start = int(number * room + (room - length) / 2)
        first, last = (_nearest_break(text, at, most, borders) for at in (start, start + length))
        stretches.append((first, last))
    return stretches


def _nearest_break(text: str, at: int, most: int, borders: Sequence[int]) -> int:
    """The nearest place to begin a part, at most so far away: a document, a paragraph, a line, a word, or just here."""
    start, end = at - most, at + most
    nearby, inside = text[start:end], borders[bisect_left(borders, start) : bisect_right(borders, end)]
    for places in (inside, *([start + found.end() for found in kind.finditer(nearby)] for kind in BREAKS)):
        if places:
            return min(places, key=lambda place: abs(place - at))
    return at


def _by_document(spans: Sequence[Span], borders: Sequence[int]) -> tuple[Span, ...]:
    """The same characters, cut where a document ends; without empty parts."""
    cuts = [
        [first, *borders[bisect_right(borders, first) : bisect_left(borders, last)], last]
        for first, last in spans
        if first < last
    ]
    return tuple(part for own in cuts for part in pairwise(own))
