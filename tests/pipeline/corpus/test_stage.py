from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.text_sections import CorpusSection, SourceSection
from pipeline.corpus import sources, stage
from pipeline.corpus.parts import Document, part_paths, read_part
from pipeline.corpus.records import Record
from pipeline.corpus.splits import CORPUS_SPLITS
from pipeline.corpus.stage import fair_share, record_groups
from pipeline.errors import ConfigError, DataError
from pipeline.graph.stage_counts import Contamination, CorpusCounts, DamagedFile, SourceProvenance

Run = Callable[..., tuple[Path, CorpusCounts]]
Writer = Callable[[Path, list[str]], Path]
INF = float("inf")


def texts(number: int, start: int = 0) -> list[str]:
    return [f"Document {n}. " + f"Some words of text {n} follow. " * 20 for n in range(start, start + number)]


def corpus_of(*sources: SourceSection, **values: Any) -> CorpusSection:
    return CorpusSection(sources=sources, **({"validation": 0.2} | values))


def documents(folder: Path) -> list[Document]:
    return [document for split in CORPUS_SPLITS for path in part_paths(folder, split) for document in read_part(path)]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def two_sources(tmp_path: Path, write_lines: Writer) -> CorpusSection:
    for number in range(4):
        write_lines(tmp_path / "data" / f"a{number}.jsonl.zst", texts(20, start=20 * number))
    write_lines(tmp_path / "data" / "b.jsonl", [*texts(30, start=200), "short", texts(1)[0]])
    a, b = (
        SourceSection(name=name, path=str(tmp_path / "data" / f"{name}*.jsonl*"), license="CC0-1.0") for name in "ab"
    )
    return corpus_of(a, b)


def test_every_document_is_kept_or_counted(two_sources: CorpusSection, run_corpus: Run) -> None:
    folder, counts = run_corpus(two_sources)
    kept = documents(folder)
    assert Counter(document["text"] for document in kept) == Counter(
        text.strip() for text in texts(80) + texts(30, start=200)
    )
    assert (counts.documents_in, counts.documents_kept) == (112, 110)
    assert counts.dropped == {"duplicate": 1, "too_short": 1}
    assert counts.bytes_kept == sum(len(document["text"].encode()) for document in kept)
    size_a, size_b = (sum(len(text.strip()) for text in some) for some in (texts(80), texts(30, start=200)))
    a, b = ({"name": name, "license": "CC0-1.0", "revision": None} for name in "ab")
    assert counts.sources == (
        SourceProvenance(**a, documents=80, bytes=size_a, files=4, files_found=4, documents_in=80),
        SourceProvenance(
            **b,
            documents=30,
            bytes=size_b,
            files=1,
            files_found=1,
            documents_in=32,
            dropped={"duplicate": 1, "too_short": 1},
        ),
    )
    assert {document["source"] for document in kept} == {"a", "b"}


def test_set_aside_names_the_place_and_the_reason(two_sources: CorpusSection, run_corpus: Run) -> None:
    folder, _ = run_corpus(two_sources)
    assert {path.name for path in folder.iterdir()} == {"train", "validation", "set_aside.jsonl"}
    lines = [json.loads(line) for line in (folder / "set_aside.jsonl").read_text().splitlines()]
    assert lines == [
        {"source": "b", "file": "b.jsonl", "line": 31, "reason": "too_short"},
        {"source": "b", "file": "b.jsonl", "line": 32, "reason": "duplicate"},
    ]


def test_validation_is_chosen_by_text_and_seed(two_sources: CorpusSection, run_corpus: Run) -> None:
    folder, counts = run_corpus(two_sources)
    chosen = {document["text"] for path in part_paths(folder, "validation") for document in read_part(path)}
    assert 10 <= counts.validation_documents == len(chosen) <= 35
    other, _ = run_corpus(two_sources.model_copy(update={"seed": 1}), folder="other")
    assert chosen != {document["text"] for path in part_paths(other, "validation") for document in read_part(path)}


def test_files_do_not_depend_on_the_number_of_workers(
    two_sources: CorpusSection, run_corpus: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "GROUP_RECORDS", 7)
    one, counts_of_one = run_corpus(two_sources, folder="one", workers=1)
    two, counts_of_two = run_corpus(two_sources, folder="two", workers=2)
    assert content(one) == content(two)
    assert counts_of_one == counts_of_two


def test_quoting_documents_are_removed_and_none_is_left(tmp_path: Path, write_lines: Writer, run_corpus: Run) -> None:
    quotation = " ".join(f"Word{number}," for number in range(40, 53))
    path = write_lines(tmp_path / "a.jsonl", [*texts(9), f"{texts(1, start=9)[0]} {quotation} and so on."])
    folder, counts = run_corpus(corpus_of(SourceSection(name="a", path=str(path)), validation=0.5))
    assert counts.contamination == Contamination(
        ngram_words=13,
        documents_removed=1,
        bytes_removed=len(f"{texts(1, start=9)[0]} {quotation} and so on."),
        val_ngrams_total=88,
        val_ngrams_left=0,
    )
    assert counts.dropped == {"contaminated": 1}
    assert "Word40" not in "".join(document["text"] for document in documents(folder))


def test_without_decontamination_the_ngrams_are_counted_all_the_same(
    tmp_path: Path, write_lines: Writer, run_corpus: Run
) -> None:
    quotation = " ".join(f"word{number}" for number in range(14))
    path = write_lines(tmp_path / "a.jsonl", [*texts(9), texts(1, start=9)[0] + quotation])
    _, counts = run_corpus(corpus_of(SourceSection(name="a", path=str(path)), validation=0.5, decontaminate=False))
    assert (counts.contamination.ngram_words, counts.contamination.val_ngrams_left) == (None, 2)


def test_source_stops_before_its_cap_with_something_of_each_file(
    two_sources: CorpusSection, run_corpus: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "TURN_BYTES", 1)
    capped = two_sources.sources[0].model_copy(update={"max_bytes": 10_000})
    folder, counts = run_corpus(corpus_of(capped))
    assert 9_000 < counts.bytes_kept <= 10_000
    assert counts.documents_in == counts.documents_kept == len(documents(folder))
    assert counts.sources[0].files == 4


def test_total_cap_is_shared_over_the_sources(two_sources: CorpusSection, run_corpus: Run) -> None:
    _, counts = run_corpus(two_sources.model_copy(update={"max_bytes": 20_000}))
    shares = [source.bytes for source in counts.sources]
    assert all(9_000 < share <= 10_700 for share in shares)
    assert sum(shares) <= 20_000


@pytest.mark.parametrize(
    ("bytes_left", "caps", "share"),
    [
        (INF, [None, None], INF),
        (INF, [7, None], 7),
        (100, [None, None], 50),
        (100, [None, 20], 80),
        (100, [None, 20, None], 40),
        (100, [10, 20, None], 10),
        (100, [None], 100),
        (100, [60, 60], 50),
        (0, [None], 0),
    ],
)
def test_fair_share(bytes_left: float, caps: list[int | None], share: float) -> None:
    assert fair_share(bytes_left, caps) == share


def test_cap_below_the_first_document_is_refused(two_sources: CorpusSection, run_corpus: Run) -> None:
    with pytest.raises(
        ConfigError, match=r"share of 5 bytes\. Raise corpus\.max_bytes, or the max_bytes of the source"
    ):
        run_corpus(two_sources.model_copy(update={"max_bytes": 10}))


def test_cap_is_the_cause_where_only_unusable_records_came_before(
    tmp_path: Path, write_lines: Writer, run_corpus: Run
) -> None:
    path = write_lines(tmp_path / "a.jsonl", ["short", *texts(3)])
    with pytest.raises(DataError, match=r"out of 1 \(too_short 1\): its first usable .* share of 9 bytes\. Raise"):
        run_corpus(corpus_of(SourceSection(name="a", path=str(path), max_bytes=9)))


@pytest.mark.parametrize("max_bytes", [None, 1_000_000])
def test_source_without_a_record_is_refused_as_empty_whatever_its_cap(
    tmp_path: Path, write_lines: Writer, run_corpus: Run, max_bytes: int | None
) -> None:
    path = write_lines(tmp_path / "a.jsonl.zst", [])
    with pytest.raises(ConfigError) as refusal:
        run_corpus(corpus_of(SourceSection(name="a", path=str(path), max_bytes=max_bytes)))
    assert refusal.value.message == "Source a gave no document: it has no records."
    assert "max_bytes" not in refusal.value.remedy


def test_source_without_a_usable_document_is_refused(tmp_path: Path, write_lines: Writer, run_corpus: Run) -> None:
    path = write_lines(tmp_path / "a.jsonl", texts(3))
    with pytest.raises(DataError, match=r"Source a gave no document out of 3 \(missing_field 3\)"):
        run_corpus(corpus_of(SourceSection(name="a", path=str(path), field="body")))


def test_damaged_file_is_loud_and_the_rest_is_kept(
    two_sources: CorpusSection, tmp_path: Path, run_corpus: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "data" / "a1.jsonl.zst"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(
        DataError, match=r"lost 1 of 4 files, .*: 1 truncated_file \(a1.jsonl.zst\)\. Restore those files"
    ):
        run_corpus(two_sources)
    _, counts = run_corpus(two_sources.model_copy(update={"max_lost": 0.25}))
    assert counts.damaged_files == (DamagedFile(source="a", file="a1.jsonl.zst", reason="truncated_file"),)
    assert counts.documents_in == counts.documents_kept + sum(counts.dropped.values())
    assert counts.dropped["truncated_file"] == 1
    assert "DAMAGED: a1.jsonl.zst of a ends early" in capsys.readouterr().err


def test_groups_of_records_are_bounded_and_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "GROUP_BYTES", 10)
    monkeypatch.setattr(stage, "GROUP_RECORDS", 3)
    records = [Record("f", line, "json", b"x" * size) for line, size in enumerate([4, 4, 4, 1, 1, 1, 50, 2])]
    assert [[record.line for record in group] for group in record_groups(records)] == [[0, 1, 2], [3, 4, 5], [6], [7]]


def test_missing_sources_fall_back_to_docstrings_when_asked(
    run_corpus: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path / "packages"))
    (tmp_path / "packages").mkdir()
    for number, text in enumerate(texts(20)):
        (tmp_path / "packages" / f"module{number}.py").write_text(f'"""{text}"""\n')
    nowhere = SourceSection(name="gone", path=str(tmp_path / "gone" / "*.jsonl"))
    with pytest.raises(ConfigError, match="no file matches"):
        run_corpus(corpus_of(nowhere))
    folder, counts = run_corpus(corpus_of(nowhere, fallback=True))
    assert (counts.origin, counts.documents_kept) == ("installed text", 20)
    assert {document["source"] for document in documents(folder)} == {"installed-text"}
    assert "CORPUS NOT FOUND" in capsys.readouterr().err


@pytest.mark.data
def test_contaminated_documents_are_the_ones_removed(data: Path, run_corpus: Run) -> None:
    text = (data / "tinyshakespeare" / "input.txt").read_text()
    source = SourceSection(name="contaminated", path=str(data / "contaminated" / "*.jsonl.zst"))
    folder, counts = run_corpus(corpus_of(source, validation=0.2), validation=text[1_003_854:])
    assert counts.contamination.documents_removed == 7
    assert counts.contamination.val_ngrams_total == 20_277
    assert counts.contamination.val_ngrams_left == 0
    kept = {document["id"] for document in documents(folder)}
    assert {"contam/excerpt-with-val-12w", "contam/clean-control-1", "contam/val-shuffled-words"} <= kept
