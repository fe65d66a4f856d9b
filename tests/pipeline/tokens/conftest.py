"""Small finished artifacts for the stages of this package: a target, a corpus, a tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.schema import LaunchSection
from pipeline.config.text_sections import ShardsSection, TokenizerSection
from pipeline.corpus.parts import PartWriter, document_line
from pipeline.graph.manifest import Manifest, file_entries
from pipeline.graph.stage_counts import Contamination, CorpusCounts, StageCounts
from pipeline.graph.work import Artifact, Work
from pipeline.runtime.progress import Progress
from pipeline.tokens import tokenizer_stage
from tests.pipeline.written_target import write_target

TARGET_TEXT = "".join(
    f"FIRST CITIZEN {n}:\nWe'll speak, and they'd hear the {n * 7 % 31}th word.\n\n" for n in range(400)
)
BOOKS = [f"Chapter {n}.\n" + f"It was the {n}th of a long row of days, she'd said.\n" * (5 + n) for n in range(40)]
PLAYS = [f"KING {n}.\r\n  What ho! «où» — {n * 13} 漢字 🙂\n\n\n" * (3 + n % 5) for n in range(30)]


def artifact(stage: str, folder: Path, counts: StageCounts) -> Artifact:
    """The artifact of a folder, with the manifest that the runner would write."""
    values: dict[str, Any] = {"run": "test", "fingerprint": "f" * 64, "config": {}, "inputs": {}, "finished": ""}
    values |= {"seconds": 1, "rank_seconds": 1, "peak_memory_bytes": 1, "versions": {}, "git_commit": ""}
    counted = counts.model_dump(mode="json")
    return Artifact(stage, folder, Manifest(stage=stage, files=file_entries(folder), counts=counted, **values))


def counted_corpus(bytes_kept: int, ngram_words: int | None) -> CorpusCounts:
    """What stage corpus would count, as far as the stages of this package read it."""
    removed = {"documents_removed": 0, "bytes_removed": 0, "val_ngrams_total": 0, "val_ngrams_left": 0}
    return CorpusCounts(
        sources=(),
        documents_in=0,
        documents_kept=0,
        dropped={},
        bytes_kept=bytes_kept,
        validation_documents=0,
        damaged_files=(),
        origin="sources",
        contamination=Contamination(ngram_words=ngram_words, **removed),
    )


@pytest.fixture
def finished() -> Callable[[str, Path, StageCounts], Artifact]:
    return artifact


@pytest.fixture
def corpus_counts() -> Callable[[int, int | None], CorpusCounts]:
    return counted_corpus


@pytest.fixture
def target(tmp_path: Path) -> Artifact:
    folder = tmp_path / "target"
    folder.mkdir()
    write_target(
        folder, train=TARGET_TEXT[:20_000], selection=TARGET_TEXT[20_000:22_000], validation=TARGET_TEXT[22_000:]
    )
    return artifact("target", folder, StageCounts())


@pytest.fixture
def corpus(tmp_path: Path) -> Artifact:
    """Two sources in four and three training parts, and one validation part each."""
    folder = tmp_path / "corpus"
    for index, (source, texts, per_part) in enumerate((("books", BOOKS, 10), ("plays", PLAYS, 12))):
        train, validation = PartWriter(folder / "train", index), PartWriter(folder / "validation", index)
        for number, text in enumerate(texts):
            train.add(document_line({"id": f"{source}-{number}", "source": source, "text": text}))
            if number % per_part == per_part - 1:
                train.flush()
        train.flush()
        validation.add(document_line({"id": f"{source}-v", "source": source, "text": f"A {source} text of its own.\n"}))
        validation.flush()
    bytes_kept = sum(len(text.encode()) for text in BOOKS + PLAYS)
    return artifact("corpus", folder, counted_corpus(bytes_kept, ngram_words=None))


@pytest.fixture
def work_of(tmp_path: Path) -> Callable[..., Work]:
    """A function that makes the work of a stage in a folder of its own."""

    def make(
        stage: str, *inputs: Artifact, section: TokenizerSection | ShardsSection, workers: int = 1, folder: str = ""
    ) -> Work:
        place = tmp_path / (folder or stage)
        place.mkdir(exist_ok=True)
        by_stage = {artifact.stage: artifact for artifact in inputs}
        return Work(stage, {stage: section}, by_stage, place, LaunchSection(), workers, Progress(stage))

    return make


@pytest.fixture
def tokenizer_artifact(target: Artifact, corpus: Artifact, work_of: Callable[..., Work]) -> Artifact:
    work = work_of("tokenizer", target, corpus, section=TokenizerSection(vocab_size=400))
    return artifact("tokenizer", work.folder, tokenizer_stage.make_tokenizer(work))
