"""Odd inputs through the real stage: what other programs leave behind is read, or refused with a cure that cures."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config.text_sections import CorpusSection, SourceSection
from pipeline.corpus import stage
from pipeline.corpus.parts import part_paths, read_part
from pipeline.corpus.splits import CORPUS_SPLITS
from pipeline.errors import ConfigError, DataError, FolioError
from pipeline.graph.stage_counts import CorpusCounts

Run = Callable[..., tuple[Path, CorpusCounts]]
TEXTS = [f"Document {n}. " + f"Some words of text {n} follow. \u201cCaf\u00e9\u201d. " * 20 for n in range(20)]


def corpus_of(path: Path, **values: Any) -> CorpusSection:
    corpus = {name: values.pop(name) for name in list(values) if name in CorpusSection.model_fields}
    return CorpusSection(sources=(SourceSection(name="a", path=str(path), **values),), **corpus)


def refusal_of(run: Callable[[], object]) -> FolioError:
    with pytest.raises(FolioError) as refusal:
        run()
    assert "\n" not in str(refusal.value)
    return refusal.value


def settings_in(remedy: str) -> dict[str, Any]:
    """The setting that a remedy names first, as the config would hold it."""
    found = re.search(r"(?:corpus\.)?(\w+): ([\w.%-]*\w%?)", remedy)
    assert found is not None, remedy
    return {found[1]: found[2]}


def texts(folder: Path) -> set[str]:
    parts = [path for split in CORPUS_SPLITS for path in part_paths(folder, split)]
    return {document["text"] for part in parts for document in read_part(part)}


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "documents"),
    [("array.json", 12), ("indented.json", 12), ("zstd-long-window.jsonl.zst", 30), ("trailing-zeros.jsonl.gz", 12)],
)
def test_odd_file_is_read_whole(
    data: Path, run_corpus: Run, capsys: pytest.CaptureFixture[str], name: str, documents: int
) -> None:
    _, counts = run_corpus(corpus_of(data / "odd" / name))
    assert (counts.documents_in, counts.documents_kept, counts.dropped) == (documents, documents, {})
    shown = capsys.readouterr().err
    assert f"kept {documents} of {documents} documents in 1 file" in shown
    assert "DAMAGED" not in shown


@pytest.mark.data
@pytest.mark.parametrize(("name", "field"), [("nested.jsonl", "data.text"), ("other-field.jsonl", "content")])
def test_missing_field_names_the_keys_that_are_there_and_the_one_that_works(
    data: Path, run_corpus: Run, name: str, field: str
) -> None:
    path = data / "odd" / name
    refusal = refusal_of(lambda: run_corpus(corpus_of(path)))
    assert f"12 missing_field, the keys that are there: id, {field} (" in refusal.message
    assert settings_in(refusal.remedy) == {"field": field}
    _, counts = run_corpus(corpus_of(path, **settings_in(refusal.remedy)), folder="cured")
    assert (counts.documents_kept, counts.dropped) == (12, {})


@pytest.mark.data
def test_texts_from_windows_are_all_read_once_their_encoding_is_named(
    data: Path, run_corpus: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    path = data / "odd" / "windows-texts" / "*.txt"
    refusal = refusal_of(lambda: run_corpus(corpus_of(path)))
    assert refusal.exit_code == 3
    assert "lost 3 of 12 documents, more than corpus.max_lost 5%: 3 invalid_utf8 (" in refusal.message
    assert "cp1252-9.txt:1 byte 0 is 0x93; reads as cp1252" in refusal.message
    assert settings_in(refusal.remedy) == {"encoding": "cp1252"}
    folder, counts = run_corpus(corpus_of(path, encoding="cp1252"), folder="cured")
    assert (counts.documents_kept, counts.dropped) == (12, {})
    joined = "".join(texts(folder))
    assert "\r" not in joined
    assert "\u201cMatur Maker" in joined
    assert not re.search("\u00c3|\u00e2\u20ac|\ufeff|\ufffd", joined), "mojibake"
    assert "kept 12 of 12 documents in 12 files" in capsys.readouterr().err


@pytest.mark.data
def test_accepted_loss_is_summed_up_and_nothing_is_read_again(
    data: Path, run_corpus: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = data / "odd" / "windows-texts" / "*.txt"
    refusal = refusal_of(lambda: run_corpus(corpus_of(path)))
    accepted = refusal.remedy.rpartition("corpus.max_lost: ")[2].removesuffix(".")
    monkeypatch.setattr(stage, "_write_source", None)
    folder, counts = run_corpus(corpus_of(path, max_lost=accepted))
    assert (counts.documents_in, counts.documents_kept, counts.dropped) == (12, 9, {"invalid_utf8": 3})
    assert "kept 9 of 12 documents in 12 files; LOST 3 documents: 3 invalid_utf8" in capsys.readouterr().err
    lines = [json.loads(line) for line in (folder / "set_aside.jsonl").read_text().splitlines()]
    assert {line["file"] for line in lines} == {"cp1252-9.txt", "cp1252-10.txt", "cp1252-11.txt"}
    assert all(line["detail"] == "byte 0 is 0x93; reads as cp1252" for line in lines)


@pytest.mark.data
def test_one_book_is_split_into_a_beginning_and_a_passage(data: Path, run_corpus: Run) -> None:
    folder, counts = run_corpus(corpus_of(data / "odd" / "one-book.txt"))
    assert (counts.documents_kept, counts.validation_documents) == (1, 1)
    (train,) = (document for part in part_paths(folder, "train") for document in read_part(part))
    (passage,) = (document for part in part_paths(folder, "validation") for document in read_part(part))
    assert (train["id"], passage["id"]) == ("one-book.txt", "one-book.txt#held-out")
    assert len(passage["text"]) > 3_000
    assert len(train["text"]) > 30_000


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
def test_nested_text_is_read_in_every_format(tmp_path: Path, run_corpus: Run, suffix: str) -> None:
    rows = [{"id": str(n), "data": {"text": text}} for n, text in enumerate(TEXTS)]
    path = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(json.dumps(rows) if suffix == "json" else "\n".join(map(json.dumps, rows)))
    refusal = refusal_of(lambda: run_corpus(corpus_of(path)))
    assert "the keys that are there: id, data.text" in refusal.message
    folder, _ = run_corpus(corpus_of(path, **settings_in(refusal.remedy)), folder="cured")
    assert texts(folder) == {text.strip() for text in TEXTS}


@pytest.mark.parametrize("stored_as", ["utf-16-le", "utf-32-be", "cp1252"])
@pytest.mark.parametrize("suffix", ["txt", "jsonl"])
def test_the_encoding_that_a_refusal_names_reads_the_text(
    tmp_path: Path, run_corpus: Run, stored_as: str, suffix: str
) -> None:
    for number, text in enumerate(TEXTS):
        line = text if suffix == "txt" else json.dumps({"text": text}, ensure_ascii=False)
        (tmp_path / f"{number}.{suffix}").write_bytes(line.encode(stored_as))
    path = tmp_path / f"*.{suffix}"
    refusal = refusal_of(lambda: run_corpus(corpus_of(path)))
    assert settings_in(refusal.remedy) == {"encoding": stored_as}
    folder, _ = run_corpus(corpus_of(path, **settings_in(refusal.remedy)), folder="cured")
    assert texts(folder) == {text.strip() for text in TEXTS}


def test_files_that_cannot_be_read_are_counted_named_and_refused(tmp_path: Path, run_corpus: Run) -> None:
    (tmp_path / "texts").mkdir()
    for number, text in enumerate(TEXTS):
        (tmp_path / "texts" / f"{number}.txt").write_text(text)
    for number in range(2):
        (tmp_path / "texts" / f"gone{number}.txt").symlink_to(tmp_path / "nowhere.txt")
    path = tmp_path / "texts" / "*.txt"
    refusal = refusal_of(lambda: run_corpus(corpus_of(path)))
    assert "lost 2 of 22 files, more than corpus.max_lost 5%: 2 dangling_link (gone0.txt, gone1.txt)" in refusal.message
    _, counts = run_corpus(corpus_of(path, max_lost=0.1))
    (source,) = counts.sources
    assert (source.files_found, source.files, source.documents_in) == (22, 20, 22)
    assert source.documents_in == source.documents + sum(source.dropped.values())
    assert {damage.file for damage in counts.damaged_files} == {"gone0.txt", "gone1.txt"}
    (tmp_path / "nowhere.txt").write_text(TEXTS[0] + "And something of its own.")
    assert run_corpus(corpus_of(path), folder="restored")[1].dropped == {"duplicate": 1}


def test_too_short_texts_name_the_longest_and_a_limit_that_works(tmp_path: Path, run_corpus: Run) -> None:
    for number in range(30):
        (tmp_path / f"{number}.txt").write_text("word " * number + str(number))
    refusal = refusal_of(lambda: run_corpus(corpus_of(tmp_path / "*.txt")))
    assert "30 too_short, the longest has 147 characters" in refusal.message
    assert settings_in(refusal.remedy) == {"min_characters": "147"}
    _, counts = run_corpus(corpus_of(tmp_path / "*.txt", min_characters=100), folder="cured")
    assert counts.documents_kept == 10


def test_source_of_duplicates_names_the_source_that_has_them(tmp_path: Path, run_corpus: Run) -> None:
    for folder in "ab":
        (tmp_path / folder).mkdir()
        for number, text in enumerate(TEXTS):
            (tmp_path / folder / f"{number}.txt").write_text(text)
    a, b = (SourceSection(name=name, path=str(tmp_path / name / "*.txt")) for name in "ab")
    with pytest.raises(DataError, match=r"Source b gave no document .*: 20 duplicate, each is in a already") as refusal:
        run_corpus(CorpusSection(sources=(a, b)))
    assert "remove it from corpus.sources" in refusal.value.remedy
    assert run_corpus(CorpusSection(sources=(a,)), folder="cured")[1].documents_kept == 20


def test_cap_below_every_document_says_how_large_the_first_one_is(tmp_path: Path, run_corpus: Run) -> None:
    for number, text in enumerate(TEXTS):
        (tmp_path / f"{number}.txt").write_text(text)
    with pytest.raises(ConfigError, match=r"usable document has (\d+) bytes, .* share of 300 bytes\. Raise") as refusal:
        run_corpus(corpus_of(tmp_path / "*.txt", max_bytes=300))
    size = int(re.search(r"has (\d+) bytes", str(refusal.value))[1])  # type: ignore[index]
    section = CorpusSection(
        sources=(SourceSection(name="a", path=str(tmp_path / "*.txt"), max_bytes=size),), validation=0
    )
    assert run_corpus(section, folder="cured")[1].documents_kept == 1
