from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.schema import CorpusSection, SourceSection
from pipeline.corpus import sources, stage
from pipeline.corpus.parts import Document, part_paths, read_part
from pipeline.corpus.records import Record
from pipeline.corpus.source_writer import is_validation
from pipeline.corpus.stage import batches, fair_share
from pipeline.errors import ConfigError, DataError

Run = Callable[..., tuple[Path, dict[str, Any]]]
Writer = Callable[[Path, list[str]], Path]
INF = float("inf")


def texts(number: int, start: int = 0) -> list[str]:
    return [f"Document {n}. " + f"Some words of text {n} follow. " * 20 for n in range(start, start + number)]


def corpus_of(*sources: SourceSection, **settings: Any) -> CorpusSection:
    return CorpusSection(sources=sources, **({"validation": 0.2} | settings))


def documents(folder: Path) -> list[Document]:
    return [one for split in ("train", "validation") for path in part_paths(folder, split) for one in read_part(path)]


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
    assert Counter(one["text"] for one in kept) == Counter(text.strip() for text in texts(80) + texts(30, start=200))
    assert (counts["documents_in"], counts["documents_kept"]) == (112, 110)
    assert counts["dropped"] == {"duplicate": 1, "too_short": 1}
    assert counts["bytes_kept"] == sum(len(one["text"].encode()) for one in kept)
    size_a, size_b = (sum(len(text.strip()) for text in some) for some in (texts(80), texts(30, start=200)))
    assert counts["sources"] == [
        {"name": "a", "license": "CC0-1.0", "revision": None, "documents": 80, "bytes": size_a, "files": 4},
        {"name": "b", "license": "CC0-1.0", "revision": None, "documents": 30, "bytes": size_b, "files": 1},
    ]
    assert {one["source"] for one in kept} == {"a", "b"}


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
    chosen = {one["text"] for path in part_paths(folder, "validation") for one in read_part(path)}
    assert 10 <= counts["validation_documents"] == len(chosen) <= 35
    other, _ = run_corpus(two_sources.model_copy(update={"seed": 1}), folder="other")
    assert chosen != {one["text"] for path in part_paths(other, "validation") for one in read_part(path)}


def test_share_of_validation_documents_is_the_configured_one() -> None:
    digests = [number.to_bytes(16, "big") for number in range(20_000)]
    assert 900 < sum(is_validation(digest, 0.05, seed=7) for digest in digests) < 1_100
    assert not any(is_validation(digest, 0.0, seed=7) for digest in digests)
    assert all(is_validation(digest, 1.0, seed=7) for digest in digests)


def test_empty_validation_split_is_refused(tmp_path: Path, write_lines: Writer, run_corpus: Run) -> None:
    path = write_lines(tmp_path / "a.jsonl", texts(3))
    with pytest.raises(DataError, match=r"None of 3 documents falls .* split of 0.1%. Raise corpus.validation"):
        run_corpus(corpus_of(SourceSection(name="a", path=str(path)), validation=0.001))


def test_files_do_not_depend_on_the_number_of_workers(
    two_sources: CorpusSection, run_corpus: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "BATCH_RECORDS", 7)
    one, counts_of_one = run_corpus(two_sources, folder="one", workers=1)
    two, counts_of_two = run_corpus(two_sources, folder="two", workers=2)
    assert content(one) == content(two)
    assert counts_of_one == counts_of_two


def test_quoting_documents_are_removed_and_none_is_left(tmp_path: Path, write_lines: Writer, run_corpus: Run) -> None:
    quotation = " ".join(f"Word{number}," for number in range(40, 53))
    path = write_lines(tmp_path / "a.jsonl", [*texts(9), f"{texts(1, start=9)[0]} {quotation} and so on."])
    folder, counts = run_corpus(corpus_of(SourceSection(name="a", path=str(path)), validation=0.5))
    assert counts["contamination"] == {
        "ngram_words": 13,
        "documents_removed": 1,
        "bytes_removed": len(f"{texts(1, start=9)[0]} {quotation} and so on."),
        "val_ngrams_total": 88,
        "val_ngrams_left": 0,
    }
    assert counts["dropped"] == {"contaminated": 1}
    assert "Word40" not in "".join(one["text"] for one in documents(folder))


def test_without_decontamination_the_ngrams_are_counted_all_the_same(
    tmp_path: Path, write_lines: Writer, run_corpus: Run
) -> None:
    quotation = " ".join(f"word{number}" for number in range(14))
    path = write_lines(tmp_path / "a.jsonl", [*texts(9), texts(1, start=9)[0] + quotation])
    _, counts = run_corpus(corpus_of(SourceSection(name="a", path=str(path)), validation=0.5, decontaminate=False))
    assert (counts["contamination"]["ngram_words"], counts["contamination"]["val_ngrams_left"]) == (None, 2)


def test_source_stops_before_its_cap_with_something_of_each_file(
    two_sources: CorpusSection, run_corpus: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "TURN_BYTES", 1)
    capped = two_sources.sources[0].model_copy(update={"max_bytes": 10_000})
    folder, counts = run_corpus(corpus_of(capped))
    assert 9_000 < counts["bytes_kept"] <= 10_000
    assert counts["documents_in"] == counts["documents_kept"] == len(documents(folder))
    assert counts["sources"][0]["files"] == 4


def test_total_cap_is_shared_over_the_sources(two_sources: CorpusSection, run_corpus: Run) -> None:
    _, counts = run_corpus(two_sources.model_copy(update={"max_bytes": 20_000}))
    shares = [source["bytes"] for source in counts["sources"]]
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
    with pytest.raises(ConfigError, match=r"first document is larger than its share of 5 bytes"):
        run_corpus(two_sources.model_copy(update={"max_bytes": 10}))


def test_source_without_a_usable_document_is_refused(tmp_path: Path, write_lines: Writer, run_corpus: Run) -> None:
    path = write_lines(tmp_path / "a.jsonl", texts(3))
    with pytest.raises(DataError, match=r"Source a gave no document out of 3 \(missing_field 3\). Check its field"):
        run_corpus(corpus_of(SourceSection(name="a", path=str(path), field="body")))


def test_damaged_file_is_loud_and_the_rest_is_kept(
    two_sources: CorpusSection, tmp_path: Path, run_corpus: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "data" / "a1.jsonl.zst"
    path.write_bytes(path.read_bytes()[:-20])
    _, counts = run_corpus(two_sources)
    assert counts["damaged_files"] == [{"source": "a", "file": "a1.jsonl.zst", "reason": "truncated_file"}]
    assert counts["documents_in"] == counts["documents_kept"] + sum(counts["dropped"].values())
    assert counts["dropped"]["truncated_file"] == 1
    assert "DAMAGED: a1.jsonl.zst of a ends early" in capsys.readouterr().err


def test_batches_are_bounded_and_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "BATCH_BYTES", 10)
    monkeypatch.setattr(stage, "BATCH_RECORDS", 3)
    records = [Record("f", line, "json", b"x" * size) for line, size in enumerate([4, 4, 4, 1, 1, 1, 50, 2])]
    assert [[record.line for record in batch] for batch in batches(records)] == [[0, 1, 2], [3, 4, 5], [6], [7]]


def test_interrupted_stage_ends_with_the_same_files(
    two_sources: CorpusSection, run_corpus: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the second source, which holds a duplicate of the first: its text must still count as seen."""
    whole, counts = run_corpus(two_sources, folder="whole")
    folder = whole.with_name("again")

    with monkeypatch.context() as broken:
        broken.setattr(stage.SourceWriter, "finish", _interrupt_source_b(stage.SourceWriter.finish))
        with pytest.raises(KeyboardInterrupt):
            run_corpus(two_sources, folder="again")
    assert (folder / "drafts" / "00.json").exists()
    (folder / "train" / "01-00009.jsonl.zst").write_bytes(b"left over")
    with monkeypatch.context() as strict:
        strict.setattr(stage.SourceWriter, "__init__", _refuse_source_a(stage.SourceWriter.__init__))
        _, again = run_corpus(two_sources, folder="again")
    assert content(folder) == content(whole)
    assert again == counts


def _interrupt_source_b(finish: Callable[[Any], None]) -> Callable[[Any], None]:
    def interrupted(writer: Any) -> None:
        finish(writer)
        if writer.ledger.name == "b":
            raise KeyboardInterrupt

    return interrupted


def _refuse_source_a(construct: Callable[..., None]) -> Callable[..., None]:
    def checked(writer: Any, folder: Path, index: int, *rest: Any, **settings: Any) -> None:
        assert index != 0, "a finished source is written again"
        construct(writer, folder, index, *rest, **settings)

    return checked


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
    assert (counts["origin"], counts["documents_kept"]) == ("installed text", 20)
    assert {one["source"] for one in documents(folder)} == {"installed-text"}
    assert "CORPUS NOT FOUND" in capsys.readouterr().err


@pytest.mark.data
def test_contaminated_documents_are_the_ones_removed(data: Path, run_corpus: Run) -> None:
    text = (data / "tinyshakespeare" / "input.txt").read_text()
    source = SourceSection(name="contaminated", path=str(data / "contaminated" / "*.jsonl.zst"))
    folder, counts = run_corpus(corpus_of(source, validation=0.2), validation=text[1_003_854:])
    assert counts["contamination"]["documents_removed"] == 7
    assert counts["contamination"]["val_ngrams_total"] == 20_277
    assert counts["contamination"]["val_ngrams_left"] == 0
    kept = {one["id"] for one in documents(folder)}
    assert {"contam/excerpt-with-val-12w", "contam/clean-control-1", "contam/val-shuffled-words"} <= kept


KILLED = """
import sys, time
sys.path[:0] = {path!r}
from pathlib import Path
from pipeline.corpus import build
from pipeline.corpus.parts import PartWriter
from pipeline.config.schema import Corpus, Launch
from pipeline.runtime.progress import Progress
from pipeline.graph.work import Artifact, Work

if __name__ == "__main__":
    flush = PartWriter.flush
    def slow(writer):
        flush(writer)
        print("part", flush=True)
        time.sleep(60 if writer.index else 0)
    PartWriter.flush = slow
    config = Corpus.model_validate_json(Path({config!r}).read_text())
    inputs = {{"target": Artifact("target", Path({target!r}), None)}}
    build.run(Work("corpus", {{"corpus": config}}, inputs, Path({folder!r}), Launch(), 2, Progress("corpus")))
"""


def test_killed_stage_leaves_no_worker_and_ends_with_the_same_files(
    two_sources: CorpusSection, run_corpus: Run, tmp_path: Path
) -> None:
    whole, counts = run_corpus(two_sources, folder="whole")
    (tmp_path / "killed").mkdir()
    (tmp_path / "config.json").write_text(two_sources.model_dump_json())
    values = {"path": [path for path in sys.path if path], "config": str(tmp_path / "config.json")}
    values |= {"target": str(tmp_path / "target"), "folder": str(tmp_path / "killed")}
    script = tmp_path / "run.py"
    script.write_text(KILLED.format(**values))
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, start_new_session=True) as stage:
        assert stage.stdout is not None
        for _ in range(3):  # both parts of the first source, one of the second
            assert stage.stdout.readline() == b"part\n"
        stage.send_signal(signal.SIGKILL)
    assert _group_ends(stage.pid)
    _, again = run_corpus(two_sources, folder="killed", workers=2)
    assert content(tmp_path / "killed") == content(whole)
    assert again == counts


def _group_ends(group: int, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False
