from __future__ import annotations

import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from pipeline.config.text_sections import ShardsSection, TokenizerSection
from pipeline.corpus.parts import part_paths, read_part
from pipeline.corpus.target_splits import TARGET_SPLITS, TargetSplits, target_text
from pipeline.errors import DataError
from pipeline.graph.manifest import file_entries
from pipeline.graph.stage_counts import TextTotals
from pipeline.graph.work import Artifact, Work
from pipeline.tokens import shards_stage, tokenizer_stage
from pipeline.tokens.shard import Rows, ShardInfo, TokenStream, num_record_batches, read_info, read_rows
from pipeline.tokens.tokenizer import load_tokenizer

MakeWork = Callable[..., Work]
Finished = Callable[..., Artifact]
SMALL = ShardsSection(shard_bytes=10_000)


@pytest.fixture
def work(target: Artifact, corpus: Artifact, tokenizer_artifact: Artifact, work_of: MakeWork) -> Work:
    return work_of("shards", target, corpus, tokenizer_artifact, section=SMALL)


def hashes(folder: Path) -> dict[str, str]:
    return {entry.path: entry.sha256 for entry in file_entries(folder)}


def test_shards_hold_every_document_once_and_in_order(work: Work) -> None:
    counts = shards_stage.make_shards(work)
    tokenizer = load_tokenizer(work.inputs["tokenizer"].folder)
    for split in ("train", "validation"):
        documents = [doc for part in part_paths(work.inputs["corpus"].folder, split) for doc in read_part(part)]
        paths = sorted((work.folder / "corpus").glob(f"{split}-*.arrow"))
        rows = [row for path in paths for row in pa.ipc.open_file(str(path)).read_all().to_pylist()]
        assert [(row["document"], row["source"]) for row in rows] == [(doc["id"], doc["source"]) for doc in documents]
        assert {row["tokens"][0] for row in rows} == {tokenizer.end_of_text}
        assert [tokenizer.decode(row["tokens"][1:]) for row in rows] == [doc["text"] for doc in documents]
        assert getattr(counts, f"corpus_{split}") == TextTotals(
            documents=len(documents),
            tokens=sum(len(row["tokens"]) for row in rows),
            bytes=sum(len(doc["text"].encode()) for doc in documents),
        )


def test_parts_of_the_target_are_documents(work: Work) -> None:
    counts = shards_stage.make_shards(work)
    tokenizer = load_tokenizer(work.inputs["tokenizer"].folder)
    for split in TARGET_SPLITS:
        stream = TokenStream.open([work.folder / "target" / f"{split}.arrow"], tokenizer_sha256=tokenizer.sha256)
        text = target_text(work.inputs["target"].folder, split).encode()
        ids = stream.window(0, len(stream))
        assert ids[0] == tokenizer.end_of_text
        assert tokenizer.decode_bytes(ids[1:]) == text
        totals = TextTotals(documents=1, tokens=len(stream), bytes=len(text))
        assert getattr(counts, f"target_{split}") == totals


def test_each_part_of_a_split_follows_an_end_of_text(work: Work) -> None:
    target = work.inputs["target"]
    text = target_text(target.folder, "refit")
    TargetSplits(
        train=((0, 900), (1000, 2000)),
        selection=((900, 1000), (2000, len(text))),
        refit=((0, len(text)),),
        validation=((len(text), len(text) + 6),),
    ).write(target.folder, f"{text}scored")
    changed = replace(target, manifest=target.manifest.model_copy(update={"files": file_entries(target.folder)}))
    counts = shards_stage.make_shards(replace(work, inputs={**work.inputs, "target": changed}))
    assert (counts.target_train.documents, counts.target_selection.documents) == (2, 2)
    assert (counts.target_refit.documents, counts.target_validation.documents) == (1, 1)
    tokenizer = load_tokenizer(work.inputs["tokenizer"].folder)
    stream = TokenStream.open([work.folder / "target" / "train.arrow"], tokenizer_sha256=tokenizer.sha256)
    ids = stream.window(0, len(stream))
    assert ids[0] == tokenizer.end_of_text
    assert (ids == tokenizer.end_of_text).sum() == 2


def test_each_shard_has_one_source_and_about_the_wanted_size(work: Work) -> None:
    counts = shards_stage.make_shards(work)
    paths = sorted((work.folder / "corpus").glob("train-*.arrow"))
    infos = [read_info(path) for path in paths]
    assert [info.source for info in infos] == sorted(info.source for info in infos)
    assert len(infos) > 2
    for info, following in pairwise(infos):
        assert info.tokens * 2 >= SMALL.shard_bytes or following.source != info.source
    assert counts.sources.keys() == {"books", "plays"}
    plays = TokenStream.open(paths, source="plays")
    assert len(plays) == counts.sources["plays"].tokens
    assert plays.documents_of(0, 1)[0].document == "plays-0"


def test_number_of_workers_changes_nothing(work: Work, tmp_path: Path) -> None:
    counts = shards_stage.make_shards(work)
    parallel = replace(work, workers=2, folder=tmp_path / "parallel")
    parallel.folder.mkdir()
    assert shards_stage.make_shards(parallel) == counts
    assert hashes(parallel.folder) == hashes(work.folder)


@pytest.mark.parametrize("num_before_the_stop", [0, 1, 2, 4])
def test_interrupted_stage_goes_on_and_ends_with_equal_bytes(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_before_the_stop: int
) -> None:
    counts = shards_stage.make_shards(work)
    stopped = replace(work, folder=tmp_path / "stopped")
    stopped.folder.mkdir()
    write = shards_stage.write_shard

    def stopping(path: Path, rows: list[Rows], info: ShardInfo) -> None:
        if info.name.startswith("corpus/") and len(list(path.parent.glob("*.arrow"))) == num_before_the_stop:
            path.with_name(path.name + ".tmp").write_bytes(b"cut")
            raise KeyboardInterrupt
        write(path, rows, info)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shards_stage, "write_shard", stopping)
        shards_stage.make_shards(stopped)
    left = list((stopped.folder / "corpus").glob("*.arrow"))
    assert len(left) == num_before_the_stop
    times = [path.stat().st_mtime_ns for path in left]
    assert shards_stage.make_shards(stopped) == counts
    assert hashes(stopped.folder) == hashes(work.folder)
    assert [path.stat().st_mtime_ns for path in left] == times


def test_unfinished_shards_of_other_content_are_written_again(work: Work) -> None:
    counts = shards_stage.make_shards(work)
    expected = hashes(work.folder)
    first, second = sorted((work.folder / "corpus").glob("train-*.arrow"))[:2]
    second.write_bytes(first.read_bytes())
    first.write_bytes(first.read_bytes()[:-20])
    assert shards_stage.make_shards(work) == counts
    assert hashes(work.folder) == expected


PROGRAM = """
import pickle, sys, time
from pathlib import Path
from pipeline.runtime.progress import Progress
from pipeline.graph.work import Work
from pipeline.tokens import shards_stage

def slowly(*arguments, write=shards_stage.write_shard):
    write(*arguments)
    time.sleep(0.5)

if __name__ == "__main__":
    shards_stage.write_shard = slowly
    shards_stage.make_shards(Work(**pickle.loads(Path(sys.argv[1]).read_bytes()), progress=Progress("shards")))
"""


def test_killed_stage_leaves_no_process_and_ends_with_equal_bytes(work: Work, tmp_path: Path) -> None:
    counts = shards_stage.make_shards(work)
    killed = replace(work, workers=2, folder=tmp_path / "killed")
    killed.folder.mkdir()
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "work").write_bytes(pickle.dumps({k: v for k, v in vars(killed).items() if k != "progress"}))
    process = subprocess.Popen([sys.executable, str(tmp_path / "program.py"), str(tmp_path / "work")])
    wait_until(lambda: len(list(killed.folder.glob("corpus/*.arrow"))) == 2, process)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert len(children) >= 2
    assert psutil.wait_procs(children, timeout=10)[1] == []
    assert len(list(killed.folder.glob("corpus/*.arrow"))) == 2
    assert shards_stage.make_shards(replace(killed, workers=1)) == counts
    assert hashes(killed.folder) == hashes(work.folder)


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert process.poll() is None, "the stage ended before it could be killed"
        assert time.monotonic() < deadline, "the stage did not get far enough to be killed"
        time.sleep(0.02)


def test_lecture_run_needs_no_corpus(target: Artifact, work_of: MakeWork, finished: Finished) -> None:
    tokenizer = work_of("tokenizer", target, section=TokenizerSection(kind="char"))
    characters = finished("tokenizer", tokenizer.folder, tokenizer_stage.make_tokenizer(tokenizer))
    counts = shards_stage.make_shards(work_of("shards", target, characters, section=SMALL))
    assert counts.val_ngrams_left_in_shards is None
    assert counts.corpus_train == TextTotals(documents=0, tokens=0, bytes=0)
    assert counts.target_train == TextTotals(documents=1, tokens=20_001, bytes=20_000)


def test_tokens_that_lose_text_are_noticed(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.tokens.tokenizer.BytePairTokenizer.decode_bytes", lambda self, ids: b"other")
    with pytest.raises(AssertionError, match="lose text"):
        shards_stage.make_shards(work)


def test_changed_tokenizer_is_refused(work: Work) -> None:
    file = work.inputs["tokenizer"].folder / "tokenizer.json"
    file.write_text(file.read_text().replace("\n", " \n", 1))
    with pytest.raises(DataError, match=r"tokenizer\.json has"):
        shards_stage.make_shards(work)


def test_rows_of_a_batch_are_its_documents(work: Work) -> None:
    shards_stage.make_shards(work)
    path = work.folder / "corpus" / "train-00000.arrow"
    rows = [read_rows(path, index) for index in range(num_record_batches(path))]
    assert [name for batch in rows for name in batch.documents][:2] == ["books-0", "books-1"]
    assert sum(len(batch.tokens) for batch in rows) == read_info(path).tokens
