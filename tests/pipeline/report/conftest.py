"""Reports on the finished chain: a plain one, and one with branches, a leak ablation, rivals and another size."""

from __future__ import annotations

import io
import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.graph.manifest import file_entries
from pipeline.graph.stage_counts import ReportCounts
from pipeline.graph.variants import LEAK, Variant
from pipeline.graph.work import Artifact
from pipeline.report.finished_run import FinishedRun
from pipeline.report.report_json import Report
from pipeline.report.stage import make_report
from pipeline.saved_models.model_files import BRANCHES, LAST, METRICS, TRIALS, WEIGHTS
from pipeline.saved_models.trial_record import TrialRecord
from pipeline.saved_models.weights import save_shape

BRANCH_TOKENS = (64, 128, 256, 640)
RIVALS: dict[str, Any] = {"fewer steps": {"scratch.max_steps": 3}, "short": {"model.context": 8}}
SIZES: dict[str, Any] = {"small": {"model.width": 8}}


@dataclass(frozen=True)
class Written:
    """A report on a finished chain, with what its stage returned and printed."""

    folder: Path
    counts: ReportCounts
    out: str
    err: str

    @property
    def content(self) -> dict[str, Any]:
        """report.json, as a program reads it."""
        content: dict[str, Any] = json.loads((self.folder / "report.json").read_text(encoding="utf-8"))
        return content

    @property
    def report(self) -> Report:
        return Report.model_validate(self.content)

    @property
    def html(self) -> str:
        return (self.folder / "report.html").read_text(encoding="utf-8")

    @property
    def markdown(self) -> str:
        return (self.folder / "report.md").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def written(finished: Any) -> Written:
    return write_report(finished)


@pytest.fixture(scope="session")
def whole_chain(finished: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The finished chain with everything that a report can compare it with."""
    chain = replace(finished, root=tmp_path_factory.mktemp("whole"), artifacts=dict(finished.artifacts), variants={})
    add_branches(chain)
    add_leak(chain)
    for name, changes in RIVALS.items():
        add_rival(chain, name, changes.get("model.context", chain.shape.context))
    add_size(chain, "small")
    chain.section = chain.section.model_copy(update={"rivals": RIVALS, "sizes": SIZES, "leak_ablation": True})
    return chain


@pytest.fixture(scope="session")
def whole(whole_chain: Any) -> Written:
    return write_report(whole_chain)


@pytest.fixture(scope="session")
def whole_run(whole_chain: Any) -> FinishedRun:
    return FinishedRun.of(whole_chain.work("read"))


@pytest.fixture
def write() -> Any:
    """write(chain): the report on a chain that a test has changed."""
    return write_report


def write_report(chain: Any) -> Written:
    work, out, err = chain.work(), io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        counts = make_report(work)
    return Written(work.folder, counts, out.getvalue(), err.getvalue())


def add_branches(chain: Any) -> None:
    """Pretraining and finetuning again, with branches; more tokens take more steps, so that the curve falls."""
    folders = {stage: chain.root / f"branched-{stage}" for stage in ("pretrain", "finetune")}
    for stage, folder in folders.items():
        shutil.copytree(chain.artifacts[stage].folder, folder)
    for tokens in BRANCH_TOKENS:
        start, tuned = (folders[stage] / BRANCHES / branch_name(tokens) for stage in ("pretrain", "finetune"))
        start.mkdir(parents=True)
        chain.save_trained(start / WEIGHTS, chain.shape, seed=0, steps=tokens // 64)
        lines = [{"step": 1, "seconds": 0.5}, {"step": 2, "seconds": 0.25}, {"step": 2, "tokens": 128}]
        (start / METRICS).write_text("".join(json.dumps(line) + "\n" for line in lines))
        for name in ("lr-0.001-seed-1", "lr-0.002-seed-1", "refit-lr-0.002-seed-1"):
            add_branch_trial(chain, tuned, name, steps=20 + tokens // 32)
    branches = [
        {"branch": branch_name(tokens), "steps": tokens // 64, "tokens": tokens, "val_nats_per_token": None}
        for tokens in BRANCH_TOKENS
    ]
    chain.artifacts["pretrain"] = again(chain, "pretrain", folders["pretrain"], branches=branches)
    chain.artifacts["finetune"] = again(chain, "finetune", folders["finetune"])


def branch_name(tokens: int) -> str:
    return f"step-{tokens // 64:08d}"


def add_branch_trial(chain: Any, branch: Path, name: str, steps: int) -> None:
    """One training of a branch's arm; only the refit keeps its weights."""
    record = TrialRecord.read(chain.artifacts["finetune"].folder / TRIALS / name / "trial.json")
    folder = branch / TRIALS / name
    folder.mkdir(parents=True)
    record.write(folder)
    if record.refit:
        chain.save_trained(folder / LAST, chain.shape, seed=1, steps=steps)


def add_leak(chain: Any) -> None:
    """The same artifacts as the run's own, with n-grams left in the shards."""
    chain.variants[LEAK] = {
        stage: again(chain, stage, chain.artifacts[stage].folder)
        for stage in ("corpus", "shards", "pretrain", "finetune")
    }
    shards = chain.artifacts["shards"].folder
    chain.variants[LEAK]["shards"] = again(chain, "shards", shards, val_ngrams_left_in_shards=7)


def add_rival(chain: Any, name: str, context: int) -> None:
    shape = replace(chain.shape, context=context)
    chain.variants[Variant("rival", name)] = {"scratch": retrained(chain, f"{name}.scratch", shape, steps=30)}


def add_size(chain: Any, name: str) -> None:
    shape = replace(chain.shape, width=8)
    chain.variants[Variant("size", name)] = {
        stage: retrained(chain, f"{name}.{stage}", shape, steps=10) for stage in ("pretrain", "scratch", "finetune")
    }


def retrained(chain: Any, name: str, shape: Any, steps: int) -> Artifact:
    """The artifact of a stage again, with other weights of another shape."""
    stage, folder = name.rpartition(".")[2], chain.root / name
    shutil.copytree(chain.artifacts[stage].folder, folder)
    save_shape(folder, shape)
    for file in folder.rglob("*.safetensors"):
        chain.save_trained(file, shape, seed=5, steps=steps)
    return again(chain, stage, folder)


def again(chain: Any, stage: str, folder: Path, **counts: Any) -> Artifact:
    """A finished artifact like the chain's own, in another folder or with other counts."""
    manifest = chain.artifacts[stage].manifest
    update = {"counts": manifest.counts | counts, "files": file_entries(folder)}
    return Artifact(stage, folder, manifest.model_copy(update=update))
