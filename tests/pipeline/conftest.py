"""A finished chain of tiny artifacts: a real tokenizer file, real shards, GPTs of a few thousand parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import BaseModel

from gpt.model import GPT, GPTShape
from pipeline.config.schema import LaunchSection, ReportSection
from pipeline.config.training_sections import FinetuneSection, ModelSection, PretrainSection, ScratchSection
from pipeline.corpus.target_splits import TARGET_SPLITS, TargetSplits, split_target, target_parts
from pipeline.graph.manifest import Manifest, file_entries, write_manifest
from pipeline.graph.stage_counts import (
    ArmCounts,
    Contamination,
    CorpusCounts,
    PretrainCounts,
    ShardsCounts,
    SourceProvenance,
    TargetCounts,
    TextTotals,
    TokenizerCounts,
)
from pipeline.graph.variants import Variant
from pipeline.graph.work import Artifact, Work
from pipeline.runtime.progress import Progress
from pipeline.saved_models.model_files import LAST, METRICS, TRIALS, WEIGHTS
from pipeline.saved_models.trial_record import CurvePoint, TrialRecord
from pipeline.saved_models.weights import load_shape, save_shape, save_weights
from pipeline.tokens.shard import Rows, ShardInfo, write_shard
from pipeline.tokens.tokenizer import Tokenizer, load_tokenizer

VOCABULARY = "the king and queen of night speak no more but love thy hand o romeo"
CONTEXT = 16
PRETRAINED: dict[str, Any] = {"tokens": 1280, "steps": 20, "batch_tokens": 64, "skipped_steps": 0, "parameters": 3_000}
PRETRAINED |= {"train_nats_per_token": 2.0, "val_nats_per_token": 2.1}
REPORT = ReportSection(prompt="the ", sample_tokens=12, resamples=500)


@dataclass
class Chain:
    """Finished artifacts by stage and by variant, and the section of the report stage to do on them."""

    root: Path
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    variants: dict[Variant, dict[str, Artifact]] = field(default_factory=dict)
    section: ReportSection = REPORT

    def work(self, name: str = "report") -> Work:
        folder = self.root / name
        folder.mkdir()
        sections = {"report": self.section, "model": ModelSection(context=CONTEXT)}
        launch, progress = LaunchSection(), Progress("report")
        return Work("report", sections, self.artifacts, folder, launch, 1, progress, self.variants)

    def recounted(self, stage: str, **counts: Any) -> None:
        """Change what a stage counted."""
        self._changed(stage, counts=self.artifacts[stage].manifest.counts | counts)

    def refinished(self, stage: str, finished: str, git_commit: str) -> None:
        """Change when and by which code a stage was finished."""
        self._changed(stage, finished=finished, git_commit=git_commit)

    def reinput(self, stage: str, **inputs: str) -> None:
        """Change which artifacts a stage was made from."""
        self._changed(stage, inputs=self.artifacts[stage].manifest.inputs | inputs)

    def reconfigured(self, stage: str, **changes: Any) -> None:
        """Change keys of the stage's own section in the config that its manifest repeats."""
        config = self.artifacts[stage].manifest.config
        self._changed(stage, config=config | {stage: config[stage] | changes})

    def moved(self, stage: str, folder: Path) -> None:
        """Let a stage's artifact lie in another folder."""
        self.artifacts[stage] = replace(self.artifacts[stage], folder=folder)

    def _changed(self, stage: str, **update: Any) -> None:
        artifact = self.artifacts[stage]
        self.artifacts[stage] = replace(artifact, manifest=artifact.manifest.model_copy(update=update))

    def without_pretraining(self) -> None:
        for stage in ("corpus", "pretrain", "finetune"):
            del self.artifacts[stage]

    @property
    def shape(self) -> GPTShape:
        """The shape of all models of the run."""
        return load_shape(self.artifacts["scratch"].folder / "model.json")

    def save_trained(self, path: Path, shape: GPTShape, *, seed: int, steps: int) -> None:
        """Weights of a model after some steps on the training text."""
        tokenizer = load_tokenizer(self.artifacts["tokenizer"].folder)
        text = (self.artifacts["target"].folder / "refit.txt").read_text()
        ids = torch.from_numpy(tokenizer.encode(text).astype(np.int64))
        save_weights(path, trained(shape, ids, seed=seed, steps=steps).state_dict())


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Made once; tests get a copy of the bookkeeping and leave the files alone."""
    torch.manual_seed(0)
    chain = Chain(tmp_path_factory.mktemp("store"))
    Builder(chain).build()
    return chain


@pytest.fixture
def chain(finished: Chain, tmp_path: Path) -> Chain:
    return Chain(tmp_path, dict(finished.artifacts))


class Builder:
    """Writes the stages in order, each with the manifest that the runner would write."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain

    def build(self) -> None:
        text = text_of(0, 900)
        self.target(text, split_target([text], selection=0.05, validation=0.1))
        self.corpus()
        self.tokenizer()
        tokenizer = load_tokenizer(self.chain.artifacts["tokenizer"].folder)
        self.shards(tokenizer)
        shape = GPTShape(vocab_size=tokenizer.vocab_size, layers=1, width=16, heads=2, context=CONTEXT)
        self.pretrain(shape)
        for stage, steps in (("scratch", 5), ("finetune", 40)):
            self.arm(stage, shape, steps)

    def target(self, text: str, splits: TargetSplits) -> None:
        splits.write(self.folder("target"), text)
        sizes: dict[str, Any] = {"characters": len(text), "bytes": len(text), "selection_stretches": splits.selection}
        for split in TARGET_SPLITS:
            sizes |= dict.fromkeys((f"{split}_characters", f"{split}_bytes"), splits.characters(split))
        counts = TargetCounts(name="words.txt", origin="path", sha256="0" * 64, **sizes)
        self.finish("target", {"target": {"path": "${FOLIO_DATA}/words.txt"}}, (), counts)

    def corpus(self) -> None:
        self.folder("corpus")
        source = SourceProvenance(name="books <&>", license="CC0 1.0", revision=None, documents=7, bytes=9000, files=1)
        removed = Contamination(
            ngram_words=13, documents_removed=2, bytes_removed=640, val_ngrams_total=70, val_ngrams_left=0
        )
        kept: dict[str, Any] = {"documents_kept": 7, "bytes_kept": 9000, "validation_documents": 1, "damaged_files": ()}
        kept |= {"documents_in": 9, "dropped": {"contaminated": 2}, "origin": "sources"}
        counts = CorpusCounts(sources=(source,), contamination=removed, **kept)
        self.finish("corpus", {"corpus": {"sources": [{"name": "books <&>"}]}}, ("target",), counts)

    def tokenizer(self) -> None:
        path = self.folder("tokenizer") / "tokenizer.json"
        path.write_text(json.dumps({"kind": "char", "characters": "".join(sorted({"\n", *VOCABULARY}))}))
        tokenizer = load_tokenizer(path.parent)
        counts = TokenizerCounts(kind="char", vocab_size=tokenizer.vocab_size, sha256=tokenizer.sha256)
        self.finish("tokenizer", {"tokenizer": {"kind": "char"}}, ("target", "corpus"), counts)

    def shards(self, tokenizer: Tokenizer) -> None:
        folder, target = self.folder("shards"), self.chain.artifacts["target"].folder
        documents = {f"target/{split}": target_parts(target, split) for split in TARGET_SPLITS}
        documents["corpus/train-00000"] = [text_of(seed, 150) for seed in range(1, 6)]
        documents["corpus/validation-00000"] = [text_of(seed, 60) for seed in range(6, 10)]
        totals = {}
        for name, bodies in documents.items():
            path = folder / f"{name}.arrow"
            path.parent.mkdir(exist_ok=True)
            tokens, offsets = tokenizer.encode_rows(bodies)
            source = "target" if name.startswith("target") else "books <&>"
            info = ShardInfo(name, source, tokenizer.sha256, tokenizer.vocab_size, tokenizer.end_of_text)
            write_shard(path, [Rows(tokens, offsets, [f"{name}-{at}" for at in range(len(bodies))])], info)
            size = len("".join(bodies).encode())
            totals[name.removesuffix("-00000").replace("/", "_")] = TextTotals(
                documents=len(bodies), tokens=len(tokens), bytes=size
            )
        counts = ShardsCounts(**totals, sources={"books <&>": totals["corpus_train"]}, val_ngrams_left_in_shards=0)
        self.finish("shards", {"shards": {}}, ("target", "corpus", "tokenizer"), counts)

    def pretrain(self, shape: GPTShape) -> None:
        folder = self.folder("pretrain")
        save_shape(folder, shape)
        self.chain.save_trained(folder / WEIGHTS, shape, seed=0, steps=20)
        lines = [{"step": step, "tokens": 64 * step, "train_nats_per_token": 3 - step / 20} for step in range(1, 21)]
        lines.append({"step": 20, "tokens": 1280, "evaluation_nats_per_token": 2.1})
        (folder / METRICS).write_text("".join(json.dumps(line) + "\n" for line in lines))
        section = PretrainSection(tokens=1280, batch_tokens=64, micro_batch=4, evaluate_tokens=256).model_dump()
        config = {"model": {}, "pretrain": section, "deepspeed": {}, "weights": {"books <&>": 1.0}}
        counts = PretrainCounts(**PRETRAINED, tokens_per_second=6000.5)
        self.finish("pretrain", config, ("shards", "tokenizer"), counts)

    def arm(self, stage: str, shape: GPTShape, steps: int) -> None:
        folder = self.folder(stage)
        save_shape(folder, shape)
        trials = [trial_record(rate, 1) for rate in (1e-3, 2e-3, 4e-3)]
        refits = [refit_record(2e-3, seed) for seed in (1, 2)]
        for trial in (*trials, *refits):
            name = f"{'refit-' if trial.refit else ''}lr-{trial.learning_rate:g}-seed-{trial.seed}"
            place = folder / TRIALS / name
            place.mkdir(parents=True)
            trial.write(place)
            if trial.refit:
                self.chain.save_trained(place / LAST, shape, seed=trial.seed, steps=steps)
        section = {"scratch": ScratchSection, "finetune": FinetuneSection}[stage](
            max_steps=100, batch_tokens=64
        ).model_dump(mode="json")
        needs = ("shards", "tokenizer", "pretrain") if stage == "finetune" else ("shards", "tokenizer")
        counts = ArmCounts(
            learning_rate=2e-3,
            chosen_step=20,
            grid=tuple(trial.summary() for trial in trials),
            seeds=(1, 2),
            trials=tuple(refit.summary() for refit in refits),
            tokens=1920,
            parameters=3_000,
            tokens_per_second=5000.0,
        )
        self.finish(stage, {"model": {}, stage: section, "deepspeed": {}}, needs, counts)

    def folder(self, stage: str) -> Path:
        folder = self.chain.root / stage
        folder.mkdir()
        return folder

    def finish(self, stage: str, config: Mapping[str, Any], needs: tuple[str, ...], counts: BaseModel) -> None:
        folder = self.chain.root / stage
        manifest = Manifest(
            stage=stage,
            run="tiny",
            fingerprint=stage.ljust(64, "0"),
            config=dict(config),
            inputs={name: name.ljust(64, "0") for name in needs},
            files=file_entries(folder),
            counts=counts.model_dump(mode="json"),
            seconds=12.5,
            rank_seconds=25.0,
            peak_memory_bytes=400_000_000,
            finished="2026-01-01T00:00:00+00:00",
            versions={"python": "3.11"},
            git_commit="0123456789ab",
        )
        write_manifest(folder, manifest)
        self.chain.artifacts[stage] = Artifact(stage, folder, manifest)


def trial_record(rate: float, seed: int) -> TrialRecord:
    """A trial that is best at its second evaluation; the best rate is 2e-3."""
    losses = [2.5, 2.0 + abs(rate - 2e-3) * 100, 2.2]
    curve = tuple(
        CurvePoint(step=10 * at, train_nats_per_token=2.4, selection_nats_per_token=loss)
        for at, loss in enumerate(losses, start=1)
    )
    return TrialRecord(
        learning_rate=rate,
        seed=seed,
        steps=30,
        tokens=1920,
        tokens_per_second=5000.0,
        best_step=20,
        best_selection_nats_per_token=losses[1],
        diverged=False,
        curve=curve,
    )


def refit_record(rate: float, seed: int) -> TrialRecord:
    """A refit of the best of those trials, as many epochs of the larger text: 20 / 0.944 steps."""
    nothing: dict[str, Any] = {"best_step": None, "best_selection_nats_per_token": None, "curve": ()}
    cost: dict[str, Any] = {"steps": 21, "tokens": 1344, "tokens_per_second": 5000.0}
    return TrialRecord(learning_rate=rate, seed=seed, **cost, **nothing, diverged=False, refit=True)


def text_of(seed: int, num_words: int) -> str:
    words = np.random.default_rng(seed).choice(VOCABULARY.split(), num_words)
    return "".join(f"{word}{chr(10) if at % 7 == 6 else ' '}" for at, word in enumerate(words))


def trained(shape: GPTShape, ids: torch.Tensor, *, seed: int, steps: int) -> GPT:
    """A model after a few optimizer steps, so that arms differ as they should."""
    model = GPT(shape).initialize(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        starts = torch.randint(len(ids) - shape.context - 1, (8,), generator=generator).tolist()
        windows = torch.stack([ids[start : start + shape.context + 1] for start in starts])
        nats, count = model(windows[:, :-1], windows[:, 1:])
        (nats / count).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model
