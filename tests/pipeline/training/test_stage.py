from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.schema import LaunchSection
from pipeline.config.training_sections import ModelSection, PretrainSection, ScratchSection
from pipeline.distributed.job import Job
from pipeline.distributed.world import World
from pipeline.errors import DataError
from pipeline.graph.manifest import FileEntry, Manifest, file_entries
from pipeline.graph.stage_counts import ArmCounts, PretrainCounts, ShardsCounts, TextTotals
from pipeline.graph.work import Artifact, Work
from pipeline.runtime.progress import Progress
from pipeline.training import stage

PRETRAINED = PretrainCounts(
    tokens=64,
    steps=1,
    batch_tokens=64,
    train_nats_per_token=None,
    val_nats_per_token=2.0,
    skipped_steps=1,
    parameters=9,
)
TRAINED_ARM = ArmCounts(learning_rate=0.1, grid=(), seeds=(1,), trials=(), tokens=64, parameters=9)


def shards_of(tokens: int) -> ShardsCounts:
    """Shards whose every text has so many tokens."""
    totals = TextTotals(documents=1, tokens=tokens, bytes=3 * tokens)
    texts = ("target_train", "target_selection", "target_validation", "corpus_train", "corpus_validation")
    return ShardsCounts(**dict.fromkeys(texts, totals), sources={"a": totals}, val_ngrams_left_in_shards=0)


def work_in(folder: Path, name: str = "pretrain", tokens: int = 100_000) -> Work:
    """A stage that reads an artifact with one file, and shards of which only the counts matter here."""
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "tokenizer.json").write_text("{}")
    manifest = Manifest(
        stage="tokenizer",
        run="x",
        fingerprint="7" * 64,
        config={},
        inputs={},
        files=tuple(file_entries(tokenizer)),
        counts={},
        seconds=1.0,
        rank_seconds=1.0,
        peak_memory_bytes=1,
        finished="2026-01-01T00:00:00+00:00",
        versions={},
        git_commit="0" * 12,
    )
    counts = shards_of(tokens).model_dump(mode="json")
    shards = manifest.model_copy(update={"stage": "shards", "counts": counts, "files": ()})
    section = {"pretrain": PretrainSection(), "scratch": ScratchSection()}[name]
    return Work(
        stage=name,
        slice={name: section, "model": ModelSection(), "deepspeed": {}},
        inputs={
            "tokenizer": Artifact("tokenizer", tokenizer, manifest),
            "shards": Artifact("shards", tokenizer, shards),
        },
        folder=folder,
        launch=LaunchSection(ranks=1),
        workers=1,
        progress=Progress(name),
    )


def launching(counts: Any, launched: list[Job]) -> Callable[..., dict[str, Any]]:
    """A launcher whose two ranks give these counts."""

    def launch(job: Job, *_: Any) -> dict[str, Any]:
        launched.append(job)
        return {**counts.model_dump(mode="json"), "world_size": 2, "peak_memory_bytes": 5}

    return launch


@pytest.mark.parametrize(("name", "counts"), [("pretrain", PRETRAINED), ("scratch", TRAINED_ARM)])
def test_counts_say_what_the_ranks_did_and_what_they_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, counts: Any
) -> None:
    clock = iter([100.0, 103.5])
    monkeypatch.setattr("pipeline.training.stage.time.monotonic", lambda: next(clock))
    launched: list[Job] = []
    monkeypatch.setattr(stage, "launch_job", launching(counts, launched))
    cost = {"world_size": 2, "peak_memory_bytes": 5, "rank_seconds": 7.0}
    assert stage.train_stage(work_in(tmp_path, name)) == counts.model_copy(update=cost)
    assert [job.stage for job in launched] == [name]


def test_a_damaged_input_is_refused_before_any_rank_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[Job] = []
    monkeypatch.setattr(stage, "launch_job", launching(PRETRAINED, launched))
    work = work_in(tmp_path)
    (tmp_path / "tokenizer" / "tokenizer.json").write_text("[]")
    with pytest.raises(DataError, match=r"tokenizer\.json has another sha256"):
        stage.train_stage(work)
    assert launched == []


def test_the_scored_text_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "launch_job", launching(TRAINED_ARM, []))
    work = work_in(tmp_path, "scratch")
    unread = FileEntry(path="target/validation.arrow", bytes=3, sha256="0" * 64)
    shards = work.inputs["shards"]
    changed = replace(shards, manifest=shards.manifest.model_copy(update={"files": (unread,)}))
    (tmp_path / "tokenizer" / "target").mkdir()
    # Whoever opens it waits for ever; whoever hashes it finds another file than the manifest's.
    os.mkfifo(tmp_path / "tokenizer" / "target" / "validation.arrow")
    assert stage.train_stage(replace(work, inputs={**work.inputs, "shards": changed}))


@pytest.mark.parametrize(("name", "counts"), [("pretrain", PRETRAINED), ("scratch", TRAINED_ARM)])
def test_the_ranks_are_told_the_batch_that_the_text_can_fill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], name: str, counts: Any
) -> None:
    launched: list[Job] = []
    monkeypatch.setattr(stage, "launch_job", launching(counts, launched))
    work = work_in(tmp_path, name, tokens=9 * 256 + 1)
    stage.train_stage(work)
    (job,) = launched
    assert (job.section.batch_tokens, work.slice[name].batch_tokens) == (8 * 256, 32 * 256)
    assert "has 9 samples of 256 tokens: batches of 2,048 tokens instead of 8,192" in capfd.readouterr().err


def test_a_rank_does_its_stage_and_only_rank_0_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.training.pretrain.pretrain_on_corpus", lambda *_: PRETRAINED)
    monkeypatch.setattr("pipeline.training.arm.train_arm", lambda *_: None)
    pretrain, scratch = (Job(name, {}, {}, {}, str(tmp_path), LaunchSection()) for name in ("pretrain", "scratch"))
    assert stage.train_on_rank(pretrain, World(), Progress("x")) == PRETRAINED.model_dump(mode="json")
    assert stage.train_on_rank(scratch, World(rank=1, world_size=2), Progress("x")) == {}
