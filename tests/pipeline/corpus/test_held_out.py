"""The held-out part of the corpus, made by the real stage out of few documents and many."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.text_sections import CorpusSection, SourceSection
from pipeline.corpus import held_out, stage
from pipeline.corpus.parts import Document, part_paths, read_part
from pipeline.corpus.seen_texts import text_digest
from pipeline.corpus.splits import CORPUS_SPLITS, SplitRule
from pipeline.errors import DataError
from pipeline.graph.stage_counts import CorpusCounts, HeldOut

Run = Callable[..., tuple[Path, CorpusCounts]]
Writer = Callable[[Path, list[str]], Path]


def book(number: int, lines: int) -> str:
    return "".join(f"Line {line} of book {number} says something new.\n" for line in range(lines)).strip()


def split(folder: Path, name: str) -> list[Document]:
    return [document for path in part_paths(folder, name) for document in read_part(path)]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def corpus_of(tmp_path: Path, write_lines: Writer) -> Callable[..., CorpusSection]:
    """A corpus of these texts, in two sources."""

    def write(texts: list[str], **values: Any) -> CorpusSection:
        half = (len(texts) + 1) // 2
        parts = {name: part for name, part in (("a", texts[:half]), ("b", texts[half:])) if part}
        paths = {name: write_lines(tmp_path / f"{name}.jsonl", part) for name, part in parts.items()}
        return CorpusSection(
            sources=tuple(SourceSection(name=name, path=str(path)) for name, path in paths.items()), **values
        )

    return write


@pytest.mark.parametrize("number", [1, 2, 20])
def test_few_books_each_spare_a_passage_with_a_gap_before_it(
    corpus_of: Callable[..., CorpusSection], run_corpus: Run, number: int
) -> None:
    texts = [book(n, 2_000) for n in range(number)]
    folder, counts = run_corpus(corpus_of(texts))
    train, passages = split(folder, "train"), split(folder, "validation")
    assert len(train) == len(passages) == number == counts.documents_kept
    for document, passage in zip(train, passages, strict=True):
        whole = next(text for text in texts if text.startswith(document["text"]))
        assert whole.endswith(passage["text"])
        assert len(whole) - len(document["text"]) - len(passage["text"]) >= 400
        assert passage["id"] == f"{document['id']}#held-out"
    size = sum(len(passage["text"]) for passage in passages)
    assert counts.held_out is not None
    assert (counts.held_out.by, counts.held_out.documents, counts.held_out.bytes) == ("passages", number, size)
    assert size > 0.85 * min(256_000, 0.1 * sum(map(len, texts)))
    kept = sum(len(document["text"]) for document in train + passages)
    assert counts.bytes_kept == kept == sum(map(len, texts)) - counts.held_out.gap_bytes


def test_many_documents_are_drawn_by_hash_as_ever(corpus_of: Callable[..., CorpusSection], run_corpus: Run) -> None:
    texts = [book(n, 12) for n in range(300)]
    folder, counts = run_corpus(corpus_of(texts, validation=0.1))
    rule = SplitRule(0.1, seed=0)
    drawn = {text for text in texts if rule.split_of(text_digest(text.encode())) == "validation"}
    assert {document["text"] for document in split(folder, "validation")} == drawn
    assert counts.held_out == HeldOut(by="documents", documents=len(drawn), bytes=sum(map(len, drawn)))


def test_short_documents_are_held_out_whole_and_more_of_them_than_asked_for(
    corpus_of: Callable[..., CorpusSection], run_corpus: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of sixty messages, 1 % is none or one; those that come first in the draw are taken until a tenth is held out."""
    texts = [book(n, 12) for n in range(60)]
    folder, counts = run_corpus(corpus_of(texts))
    rule = SplitRule(0.01, seed=0)
    order = sorted(texts, key=lambda text: rule.draw(text_digest(text.encode())))
    held = {document["text"] for document in split(folder, "validation")}
    assert held == set(order[: len(held)])
    assert 5 <= len(held) <= 7
    assert {document["text"] for document in split(folder, "train")} == set(texts) - held
    assert counts.held_out == HeldOut(by="documents", documents=len(held), bytes=sum(map(len, held)))
    assert f"held out: {len(held)} documents" in capsys.readouterr().err


def test_what_is_held_out_is_enough_for_an_evaluation(corpus_of: Callable[..., CorpusSection], run_corpus: Run) -> None:
    """256 kB where a tenth of the text is more than that."""
    _, counts = run_corpus(corpus_of([book(n, 20_000) for n in range(4)]))
    assert counts.held_out is not None
    assert 230_000 < counts.held_out.bytes <= 256_000


def test_the_share_of_the_config_is_held_out_where_it_is_larger(
    corpus_of: Callable[..., CorpusSection], run_corpus: Run
) -> None:
    texts = [book(n, 2_000) for n in range(3)]
    _, counts = run_corpus(corpus_of(texts, validation=0.3))
    assert counts.held_out is not None
    assert counts.held_out.bytes == pytest.approx(0.3 * sum(map(len, texts)), rel=0.05)


def test_texts_that_end_alike_give_the_end_once_and_train_on_it_never(
    corpus_of: Callable[..., CorpusSection], run_corpus: Run
) -> None:
    licence = "\n\n" + "".join(f"Clause {number}: no warranty of that kind.\n" for number in range(200))
    texts = [book(n, 200) + licence for n in range(3)]
    folder, _ = run_corpus(corpus_of(texts))
    (passage,) = split(folder, "validation")
    train = split(folder, "train")
    assert len(train) == 3
    assert not any(passage["text"] in document["text"] for document in train)


def test_splits_share_no_text(corpus_of: Callable[..., CorpusSection], run_corpus: Run) -> None:
    folder, _ = run_corpus(corpus_of([book(n, 500) for n in range(5)]))
    train = "\n".join(document["text"] for document in split(folder, "train"))
    lines = [line for document in split(folder, "validation") for line in document["text"].splitlines()]
    assert len(lines) > 100
    assert not [line for line in lines if line in train]


def test_one_tiny_document_is_refused_with_sizes_and_each_remedy_works(
    corpus_of: Callable[..., CorpusSection], run_corpus: Run
) -> None:
    text = book(0, 10)
    with pytest.raises(DataError) as refusal:
        run_corpus(corpus_of([text]))
    assert str(refusal.value) == (
        f"The corpus has 1 document of {len(text)} bytes: nothing can be held out of it, because a passage needs a "
        "document of 2,000 bytes. Add text, or set corpus.validation: 0 to pretrain without a held-out part."
    )
    folder, counts = run_corpus(corpus_of([text], validation=0), folder="none")
    assert [document["text"] for document in split(folder, "train")] == [text]
    assert counts.held_out == HeldOut(by="nothing", documents=0, bytes=0)
    assert run_corpus(corpus_of([book(0, 60)]), folder="more")[1].validation_documents == 1


def test_nothing_is_held_out_where_the_config_says_so(
    corpus_of: Callable[..., CorpusSection], run_corpus: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, counts = run_corpus(corpus_of([book(n, 100) for n in range(3)], validation=0))
    assert (split(folder, "validation"), counts.validation_documents) == ([], 0)
    assert "corpus.validation is 0: nothing is held out" in capsys.readouterr().err


def test_passages_do_not_depend_on_the_number_of_workers(
    corpus_of: Callable[..., CorpusSection], run_corpus: Run
) -> None:
    section = corpus_of([book(n, 300) for n in range(6)])
    one, counts_of_one = run_corpus(section, folder="one", workers=1)
    two, counts_of_two = run_corpus(section, folder="two", workers=2)
    assert content(one) == content(two)
    assert counts_of_one == counts_of_two


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def interrupted_at(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The function, until it is called for a folder of this name."""

    def called(path: Path, *arguments: Any, **values: Any) -> Any:
        if Path(path).name == name and Path(path).is_dir():
            raise KeyboardInterrupt
        return function(path, *arguments, **values)

    return called


# Before the receipt, after it, between the two splits, before the drafts are deleted and while they are.
INTERRUPTIONS: dict[str, tuple[Any, str, Any]] = {
    "planned": (held_out, "_refuse_empty", interrupt),
    "receipt": (held_out, "_take_places", interrupt),
    "one split": (Path, "replace", interrupted_at(Path.replace, "validation")),
    "both splits": (stage, "publish_set_aside", interrupt),
    "drafts": (shutil, "rmtree", interrupted_at(shutil.rmtree, "drafts")),
}


@pytest.mark.parametrize("moment", INTERRUPTIONS)
def test_stage_killed_while_it_holds_out_ends_with_the_same_files(
    corpus_of: Callable[..., CorpusSection], run_corpus: Run, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    section = corpus_of([book(n, 300) for n in range(6)])
    whole, counts = run_corpus(section, folder="whole")
    with monkeypatch.context() as broken:
        broken.setattr(*INTERRUPTIONS[moment])
        with pytest.raises(KeyboardInterrupt):
            run_corpus(section, folder="again")
    folder, again = run_corpus(section, folder="again")
    assert content(folder) == content(whole)
    assert {split: len(part_paths(folder, split)) for split in CORPUS_SPLITS} == {"train": 2, "validation": 2}
    assert again == counts
