"""A finished chain of tiny artifacts: a real tokenizer file, real shards, GPTs of a few thousand parameters."""

from __future__ import annotations

import io
import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gpt.model import GPT, GPTShape
from pipeline.config.schema import (
    FinetuneSection,
    LaunchSection,
    ModelSection,
    PretrainSection,
    ReportSection,
    ScratchSection,
)
from pipeline.corpus.target_stage import cut
from pipeline.graph.manifest import Manifest, file_entries, write_manifest
from pipeline.graph.work import Artifact, Work
from pipeline.report.stage import make_report
from pipeline.runtime.progress import Progress
from pipeline.saved_models.weights import load_shape, save_shape, save_weights
from pipeline.tokens.shard import Rows, ShardInfo, write_shard
from pipeline.tokens.tokenizer import Tokenizer, load_tokenizer

WORDS = [
    "the",
    "king",
    "and",
    "queen",
    "of",
    "night",
    "speak",
    "no",
    "more",
    "but",
    "love",
    "thy",
    "hand",
    "o",
    "romeo",
]
CONTEXT = 16
REPORT = ReportSection(prompt="the ", sample_tokens=12, resamples=500)


@dataclass
class Chain:
    """Finished artifacts by stage, and the report stage to do on them."""

    root: Path
    artifacts: dict[str, Artifact]
    stage: ReportSection = REPORT

    def work(self, name: str = "report") -> Work:
        folder = self.root / name
        folder.mkdir()
        sections = {"report": self.report, "model": ModelSection(context=CONTEXT)}
        return Work("report", sections, self.artifacts, folder, LaunchSection(), 1, Progress("report"))

    def recounted(self, stage: str, **counts: Any) -> None:
        """Change what a stage counted."""
        artifact = self.artifacts[stage]
        manifest = artifact.manifest.model_copy(update={"counts": artifact.manifest.counts | counts})
        self.artifacts[stage] = replace(artifact, manifest=manifest)

    def refinished(self, stage: str, finished: str, git_commit: str) -> None:
        """Change when and by which code a stage was finished."""
        artifact = self.artifacts[stage]
        update = {"finished": finished, "git_commit": git_commit}
        self.artifacts[stage] = replace(artifact, manifest=artifact.manifest.model_copy(update=update))

    def reinput(self, stage: str, **inputs: str) -> None:
        """Change which artifacts a stage was made from."""
        artifact = self.artifacts[stage]
        manifest = artifact.manifest.model_copy(update={"inputs": artifact.manifest.inputs | inputs})
        self.artifacts[stage] = replace(artifact, manifest=manifest)

    def branched(self) -> None:
        """Let pretraining have branches at 64 to 640 tokens, each finetuned at two rates."""
        builder = Builder(self.root, self.artifacts)
        builder.branches((64, 128, 256, 640))

    def rivalled(self) -> None:
        """Add the leak ablation, and a rival with the run's tokenizer and one with another context."""
        builder = Builder(self.root, self.artifacts)
        builder.leak()
        changes: dict[str, Any] = {"fewer steps": {"scratch.max_steps": 3}, "short": {"model.context": 8}}
        for name, change in changes.items():
            builder.rival(name, change.get("model.context", CONTEXT))
        builder.size("small")
        sizes: dict[str, Any] = {"small": {"model.width": 8}}
        self.report = self.report.model_copy(update={"rivals": changes, "sizes": sizes, "leak_ablation": True})

    def without_pretraining(self) -> None:
        for stage in ("corpus", "pretrain", "finetune"):
            del self.artifacts[stage]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Made once; tests get a copy of the bookkeeping and leave the files alone."""
    torch.manual_seed(0)
    return Builder(tmp_path_factory.mktemp("store")).chain()


@dataclass(frozen=True)
class Written:
    """A report on the finished chain, with what its stage returned and printed."""

    folder: Path
    counts: dict[str, Any]
    out: str
    err: str

    @property
    def content(self) -> dict[str, Any]:
        return content(self.folder)

    @property
    def html(self) -> str:
        return (self.folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def written(finished: Chain) -> Written:
    return _written(finished)


@pytest.fixture(scope="session")
def whole(finished: Chain, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A report with everything in it: branches, the leak ablation, rivals."""
    chain = Chain(tmp_path_factory.mktemp("whole"), dict(finished.artifacts))
    chain.branched()
    chain.rivalled()
    return _written(chain)


def _written(chain: Chain) -> Written:
    work, out, err = chain.work(), io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        counts = make_report(work)
    return Written(work.folder, counts, out.getvalue(), err.getvalue())


def content(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture
def chain(finished: Chain, tmp_path: Path) -> Chain:
    return Chain(tmp_path, dict(finished.artifacts))


def text_of(seed: int, num_words: int) -> str:
    words = np.random.default_rng(seed).choice(WORDS, num_words)
    return "".join(f"{word}{chr(10) if at % 7 == 6 else ' '}" for at, word in enumerate(words))


class Builder:
    """Writes the stages in order, each with the manifest that the runner would write."""

    def __init__(self, root: Path, artifacts: dict[str, Artifact] | None = None) -> None:
        self.root = root
        self.artifacts: dict[str, Artifact] = {} if artifacts is None else artifacts

    def chain(self) -> Chain:
        texts = cut(text_of(0, 900), selection=0.05, validation=0.1)
        self.target(texts)
        self.corpus()
        self.tokenizer()
        tokenizer = load_tokenizer(self.artifacts["tokenizer"].folder)
        self.shards(tokenizer, texts)
        shape = GPTShape(vocab_size=tokenizer.vocab_size, layers=1, width=16, heads=2, context=CONTEXT)
        ids = torch.from_numpy(tokenizer.encode(texts["train"]).astype(np.int64))
        self.pretrain(shape, ids)
        for stage, steps in (("scratch", 5), ("finetune", 40)):
            self.arm(stage, shape, ids, steps)
        return Chain(self.root, self.artifacts)

    def target(self, texts: dict[str, str]) -> None:
        folder = self.folder("target")
        counts: dict[str, Any] = {"name": "words.txt", "origin": "path", "sha256": "0" * 64}
        counts |= {"characters": sum(map(len, texts.values()))}
        for part, text in texts.items():
            (folder / f"{part}.txt").write_text(text, encoding="utf-8")
            counts |= {f"{part}_characters": len(text), f"{part}_bytes": len(text.encode())}
        self.finish("target", {"target": {"path": "${FOLIO_DATA}/words.txt"}}, (), counts)

    def corpus(self) -> None:
        self.folder("corpus")
        source = {
            "name": "books <&>",
            "license": "CC0 1.0",
            "revision": None,
            "documents": 7,
            "bytes": 9000,
            "files": [],
        }
        contamination = {"ngram_words": 13, "documents_removed": 2, "bytes_removed": 640, "val_ngrams_total": 70}
        counts = {"sources": [source], "origin": "sources", "contamination": contamination | {"val_ngrams_left": 0}}
        self.finish("corpus", {"corpus": {"sources": [{"name": "books <&>"}]}}, ("target",), counts)

    def tokenizer(self) -> None:
        path = self.folder("tokenizer") / "tokenizer.json"
        path.write_text(json.dumps({"kind": "char", "characters": "".join(sorted(set(" \n" + "".join(WORDS))))}))
        counts = {"kind": "char", "sha256": load_tokenizer(path.parent).sha256}
        self.finish("tokenizer", {"tokenizer": {"kind": "char"}}, ("target", "corpus"), counts)

    def shards(self, tokenizer: Tokenizer, texts: dict[str, str]) -> None:
        folder = self.folder("shards")
        documents = {f"target/{part}": [text] for part, text in texts.items()}
        documents["corpus/train-00000"] = [text_of(seed, 150) for seed in range(1, 6)]
        documents["corpus/validation-00000"] = [text_of(seed, 60) for seed in range(6, 10)]
        for name, bodies in documents.items():
            path = folder / f"{name}.arrow"
            path.parent.mkdir(exist_ok=True)
            tokens, offsets = tokenizer.encode_rows(bodies)
            source = "target" if name.startswith("target") else "books <&>"
            info = ShardInfo(name, source, tokenizer.sha256, tokenizer.vocab_size, tokenizer.end_of_text)
            write_shard(path, [Rows(tokens, offsets, [f"{name}-{at}" for at in range(len(bodies))])], info)
        selection = {"documents": 1, "tokens": len(texts["selection"]) + 1, "bytes": len(texts["selection"])}
        counts = {"target_selection": selection, "val_ngrams_left_in_shards": 0}
        self.finish("shards", {"shards": {}}, ("target", "corpus", "tokenizer"), counts)

    def pretrain(self, shape: GPTShape, ids: torch.Tensor) -> None:
        folder = self.folder("pretrain")
        save_shape(folder, shape)
        save_weights(folder / "model.safetensors", trained(shape, ids, seed=0, steps=20).state_dict())
        lines = [{"step": step, "tokens": 64 * step, "train_nats_per_token": 3 - step / 20} for step in range(1, 21)]
        lines.append({"step": 20, "tokens": 1280, "evaluation_nats_per_token": 2.1})
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        section = PretrainSection(tokens=1280, batch_tokens=64, micro_batch=4, evaluate_tokens=256).model_dump()
        config = {"model": {}, "pretrain": section, "deepspeed": {}, "weights": {"books <&>": 1.0}}
        self.finish("pretrain", config, ("shards", "tokenizer"), {"tokens": 1280, "tokens_per_second": 6000.5})

    def arm(self, stage: str, shape: GPTShape, ids: torch.Tensor, steps: int) -> None:
        folder = self.folder(stage)
        save_shape(folder, shape)
        for rate, seed in ((1e-3, 1), (2e-3, 1), (2e-3, 2), (4e-3, 1)):
            trial = folder / "trials" / f"lr-{rate:g}-seed-{seed}"
            trial.mkdir(parents=True)
            losses = [2.5, 2.0 + abs(rate - 2e-3) * 100, 2.2]
            curve = [
                {"step": 10 * at, "train_nats_per_token": 2.4, "selection_nats_per_token": loss}
                for at, loss in enumerate(losses, start=1)
            ]
            record = {"learning_rate": rate, "seed": seed, "steps": 30, "best_step": 20, "diverged": False}
            record |= {"best_selection_nats_per_token": losses[1], "curve": curve}
            (trial / "trial.json").write_text(json.dumps(record))
            if rate == 2e-3:
                for name, extra in (("best", 0), ("last", 3)):
                    model = trained(shape, ids, seed=seed, steps=steps + extra)
                    save_weights(trial / f"{name}.safetensors", model.state_dict())
        grid = [
            {"learning_rate": rate, "best_selection_nats_per_token": loss, "best_step": 20, "steps": 30}
            for rate, loss in ((1e-3, 2.1), (2e-3, 2.0), (4e-3, 2.2))
        ]
        section = {"scratch": ScratchSection, "finetune": FinetuneSection}[stage](max_steps=100).model_dump(mode="json")
        needs = ("shards", "tokenizer", "pretrain") if stage == "finetune" else ("shards", "tokenizer")
        counts = {"learning_rate": 2e-3, "grid": grid, "seeds": [1, 2], "tokens_per_second": 5000.0}
        self.finish(stage, {"model": {}, stage: section, "deepspeed": {}}, needs, counts)

    def branches(self, tokens: tuple[int, ...]) -> None:
        """Pretraining and finetuning again, with branches; more tokens take more steps, so that the curve falls."""
        shape, ids = self.ground()
        folders = {}
        for stage in ("pretrain", "finetune"):
            folders[stage] = self.root / f"branched-{stage}"
            shutil.copytree(self.artifacts[stage].folder, folders[stage])
        for number in tokens:
            name = f"step-{number // 64:08d}"
            start, tuned = (folders[stage] / "branches" / name for stage in ("pretrain", "finetune"))
            start.mkdir(parents=True)
            model = trained(shape, ids, seed=0, steps=number // 64)
            save_weights(start / "model.safetensors", model.state_dict())
            lines = [{"step": 1, "seconds": 0.5}, {"step": 2, "seconds": 0.25}, {"step": 2, "tokens": 128}]
            (start / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            for rate, loss in ((1e-3, 2.2), (2e-3, 2.1)):
                trial = tuned / "trials" / f"lr-{rate:g}-seed-1"
                trial.mkdir(parents=True)
                record = {"learning_rate": rate, "seed": 1, "steps": 30, "best_step": 20, "diverged": False}
                (trial / "trial.json").write_text(
                    json.dumps(record | {"best_selection_nats_per_token": loss, "curve": []})
                )
                if rate == 2e-3:
                    model = trained(shape, ids, seed=1, steps=20 + number // 32)
                    for file in ("best", "last"):
                        save_weights(trial / f"{file}.safetensors", model.state_dict())
        found = [{"branch": f"step-{number // 64:08d}", "tokens": number} for number in tokens]
        for stage, folder in folders.items():
            counts = {"branches": found} if stage == "pretrain" else {}
            self.again(stage, folder, counts)

    def leak(self) -> None:
        for stage in ("corpus", "shards", "pretrain", "finetune"):
            counts = {"val_ngrams_left_in_shards": 7} if stage == "shards" else {}
            self.again(stage, self.artifacts[stage].folder, counts, name=f"leak.{stage}")

    def rival(self, name: str, context: int) -> None:
        shape, ids = self.ground()
        folder = self.root / f"{name}.scratch"
        shutil.copytree(self.artifacts["scratch"].folder, folder)
        shape = replace(shape, context=context)
        save_shape(folder, shape)
        for file in folder.glob("trials/*/*.safetensors"):
            save_weights(file, trained(shape, ids, seed=5, steps=30).state_dict())
        self.again("scratch", folder, {}, name=f"{name}.scratch")

    def size(self, name: str) -> None:
        shape, ids = self.ground()
        shape = replace(shape, width=8)
        for stage in ("pretrain", "scratch", "finetune"):
            folder = self.root / f"{name}.{stage}"
            shutil.copytree(self.artifacts[stage].folder, folder)
            save_shape(folder, shape)
            for file in folder.rglob("*.safetensors"):
                save_weights(file, trained(shape, ids, seed=5, steps=10).state_dict())
            self.again(stage, folder, {}, name=f"{name}.{stage}")

    def ground(self) -> tuple[GPTShape, torch.Tensor]:
        """The shape of all models here, and the training text as tokens."""
        shape = load_shape(self.artifacts["scratch"].folder / "model.json")
        tokenizer = load_tokenizer(self.artifacts["tokenizer"].folder)
        text = (self.artifacts["target"].folder / "train.txt").read_text()
        return shape, torch.from_numpy(tokenizer.encode(text).astype(np.int64))

    def again(self, stage: str, folder: Path, counts: dict[str, Any], *, name: str = "") -> None:
        """A finished artifact of a stage that is there already, in another folder or under another name."""
        before = self.artifacts[stage].manifest
        update = {"counts": before.counts | counts, "files": tuple(file_entries(folder))}
        self.artifacts[name or stage] = Artifact(stage, folder, before.model_copy(update=update))

    def folder(self, stage: str) -> Path:
        folder = self.root / stage
        folder.mkdir()
        return folder

    def finish(self, stage: str, config: dict[str, Any], needs: tuple[str, ...], counts: dict[str, Any]) -> None:
        folder = self.root / stage
        manifest = Manifest(
            stage=stage,
            run="tiny",
            fingerprint=stage.ljust(64, "0"),
            config=config,
            inputs={name: name.ljust(64, "0") for name in needs},
            files=file_entries(folder),
            counts=counts,
            seconds=12.5,
            rank_seconds=25.0,
            peak_memory_bytes=400_000_000,
            finished="2026-01-01T00:00:00+00:00",
            versions={"python": "3.11"},
            git_commit="0123456789ab",
        )
        write_manifest(folder, manifest)
        self.artifacts[stage] = Artifact(stage, folder, manifest)


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
