from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.corpus.parts import document_line
from pipeline.corpus.source_counts import SourceCounts
from pipeline.corpus.source_files import SourceFiles, publish_set_aside


@pytest.fixture
def files(tmp_path: Path) -> SourceFiles:
    """Source 3 with a training part of a document and a validation part of another."""
    source = SourceFiles(tmp_path, 3)
    source.counts.parent.mkdir()
    for split, writer in source.part_writers().items():
        writer.add(document_line({"id": split, "source": "books", "text": f"a {split} text"}))
        writer.flush()
    return source


def test_source_is_finished_once_its_counts_are_there(files: SourceFiles) -> None:
    assert files.finished_counts() is None
    counts = SourceCounts("books", "CC0-1.0", revision=None, documents=2)
    counts.save(files.counts)
    assert files.finished_counts() == counts


def test_documents_are_those_of_all_splits_of_this_source(files: SourceFiles) -> None:
    other = SourceFiles(files.corpus, 4).part_writers()["train"]
    other.add(document_line({"id": "other", "source": "plays", "text": "not these"}))
    other.flush()
    assert [document["text"] for document in files.documents()] == ["a train text", "a validation text"]


def test_writers_begin_anew_where_an_interrupted_start_left_parts(files: SourceFiles) -> None:
    files.part_writers()
    assert list(files.documents()) == []


def test_published_file_joins_what_the_sources_set_aside_in_their_order(tmp_path: Path) -> None:
    for index, text in enumerate(("first\n", "", "third\n")):
        path = SourceFiles(tmp_path, index).set_aside
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    publish_set_aside(tmp_path, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["set_aside.jsonl"]
    assert (tmp_path / "set_aside.jsonl").read_text() == "first\nthird\n"


def test_a_source_whose_drafts_are_half_deleted_is_not_finished(
    files: SourceFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(folder: Path) -> None:
        files.set_aside.unlink()
        raise KeyboardInterrupt

    first = SourceFiles(files.corpus, 0)
    for source in (first, files):
        source.set_aside.write_text("")
    first.counts.write_text("{}")
    monkeypatch.setattr("shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        publish_set_aside(files.corpus, 1)
    assert first.finished_counts() is None
