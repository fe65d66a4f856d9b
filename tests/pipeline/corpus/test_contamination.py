from __future__ import annotations

import csv
import json
from itertools import product
from pathlib import Path

import pytest

from pipeline.corpus.contamination import Ngrams, ngrams, ngrams_in_part, normalised_words
from pipeline.corpus.parts import PartWriter, document_line
from pipeline.corpus.records import read_file

TRAIN_CHARACTERS = 1_003_854


def test_words_follow_the_convention() -> None:
    text = "The mad-brain'd Bridegroom\u2019s \u201cTOOK\u201d\u2014him; caf\u00e9 4th."
    assert normalised_words(text.encode()) == b"the mad braind bridegrooms took him caf 4th".split()


def test_ngrams_are_runs_of_words() -> None:
    assert list(ngrams([b"a", b"b", b"c"], 2)) == [(b"a", b"b"), (b"b", b"c")]
    assert list(ngrams([b"a"], 2)) == []


def test_shared_ngrams_of_a_worked_example() -> None:
    target = Ngrams.of(b"To be, or not to be: that is the question", 3)
    assert target.shared_with(b"I say: OR NOT TO go, that is the end") == {
        (b"or", b"not", b"to"),
        (b"that", b"is", b"the"),
    }


def test_one_word_short_is_no_match() -> None:
    text = "as he stoop'd again to take it up the mad-brain'd bridegroom took"
    target = Ngrams.of(text.encode(), 13)
    assert len(target.ngrams) == 1
    assert target.shared_with(f"before {text} after".encode()) == target.ngrams
    assert not target.shared_with(text.removesuffix(" took").encode())


@pytest.mark.parametrize("length", range(1, 9))
def test_block_lookup_finds_what_full_comparison_finds(length: int) -> None:
    target = Ngrams.of(b"a b a a b b c a b c a", length)
    for letters in product("abc", repeat=9):
        text = " ".join(letters).encode()
        assert target.shared_with(text) == target.ngrams & set(ngrams(text.split(), length)), text


def test_text_shorter_than_an_ngram_contaminates_nothing() -> None:
    assert not Ngrams.of(b"a few words", 13).shared_with(b"a few words")


@pytest.mark.data
def test_counts_of_known_documents_against_both_splits(data: Path) -> None:
    text = (data / "tinyshakespeare" / "input.txt").read_text()
    train, validation = (Ngrams.of(split.encode(), 13) for split in (text[:TRAIN_CHARACTERS], text[TRAIN_CHARACTERS:]))
    with (data / "contaminated" / "expected.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    expected = {row["id"]: (int(row["ts_train_13grams"]), int(row["ts_val_13grams"])) for row in rows}
    path = data / "contaminated" / "shakespeare-0000.jsonl.zst"
    documents = [json.loads(record.payload) for record in read_file(str(path), path.name, "text")]
    counted = {
        document["id"]: tuple(len(split.shared_with(document["text"].encode())) for split in (train, validation))
        for document in documents
    }
    assert counted == expected
    assert len(counted) == 21


def test_finished_part_is_searched_document_by_document(tmp_path: Path) -> None:
    """The n-gram that runs from the first document into the second is in neither."""
    (tmp_path / "validation.txt").write_text("a b c d e f")
    writer = PartWriter(tmp_path / "train", 0)
    for number, text in enumerate(("A, b, c!", "D e; a b c", "d e f g")):
        writer.add(document_line({"id": str(number), "source": "books", "text": text}))
    writer.flush()
    (part,) = (tmp_path / "train").iterdir()
    assert ngrams_in_part(tmp_path / "validation.txt", 3, part) == {(b"a", b"b", b"c"), (b"d", b"e", b"f")}
