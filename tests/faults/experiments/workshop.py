"""Texts, a config, and stores brought to where experiments begin; each is made once and copied from then on."""

from __future__ import annotations

import json
import math
import pydoc_data.topics
import shutil
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.graph.stages import NAMES
from pipeline.runtime.files import sha256_of
from tests.faults.conftest import CONFIG
from tests.faults.experiments.launched_folio import Ended, LaunchedFolio, done

LONG = "--set pretrain.tokens=204800"  # 200 steps in place of 40
LEFTOVERS = ("*.tmp", "*.replaced", "*.deleted")
SECTIONS = ("arms", "gain", "pretrain", "samples")  # of report.json: all but when and where it was made
STOPPED_AT = 22  # the step at which the interrupted run was stopped
ARM = {
    "learning_rates": [0.01], "max_steps": 8, "batch_tokens": 512, "micro_batch": 8, "evaluate_every": 4,
    "save_every": 4, "seeds": [1, 2],
}  # fmt: skip
Losses = list[tuple[tuple[int, str], float]]


@dataclass(frozen=True)
class Baseline:
    """What an uninterrupted run ended with: its loss at each step and evaluation, and the hash of its weights."""

    folder: Path
    losses: Losses
    sha256: str

    @classmethod
    def of(cls, folder: Path) -> Baseline:
        return cls(folder, losses(folder), sha256_of(artifact(folder, "pretrain") / "model.safetensors"))


class Workshop:
    """A folder in which experiments have folders of their own."""

    def __init__(self, root: Path) -> None:
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        self.root, self.config = root.absolute(), root.absolute() / "run.yaml"
        self._baselines: dict[str, Baseline] = {}
        self._finished: set[str] = set()
        self._copies: set[Path] = set()
        text = "\n".join(text for _, text in sorted(pydoc_data.topics.topics.items()))
        (root / "target.txt").write_text(text[:40_000])
        (root / "corpus").mkdir()
        for number, start in enumerate(range(60_000, 260_000, 5_000)):
            (root / "corpus" / f"{number:02d}.txt").write_text(text[start : start + 5_000])
        self.config.write_text(yaml.safe_dump(self._values()))

    def _values(self) -> dict[str, Any]:
        """The config of the other tests about faults, with a model of 0.2 M parameters, 40 steps, and small arms."""
        values: dict[str, Any] = yaml.safe_load(CONFIG.format(folder=self.root))
        values["model"] |= {"layers": 2, "width": 88, "heads": 4}
        values["pretrain"]["tokens"] = 40 * values["pretrain"]["batch_tokens"]
        values |= {
            "scratch": deepcopy(ARM),
            "finetune": deepcopy(ARM),
            "report": {"resamples": 100, "sample_tokens": 5},
        }
        values["launch"] |= {"ranks": 2, "startup_seconds": 100}
        return values

    def pretrain(self, options: str = "", ranks: int = 2) -> str:
        """The command that every training of an experiment is started with, and started again."""
        return f"pretrain {self.config} --ranks {ranks} {options}".strip()

    def folder(self, name: str, source: str = "prepared", *, stages: Sequence[str] = NAMES) -> Path:
        """An experiment's own folder with a copy of the artifacts of `source`, of these stages."""
        made = {"prepared": self._prepared, "interrupted": self._interrupted, "whole": self._whole}[source]()
        folder = self.root / name
        shutil.rmtree(folder, ignore_errors=True)
        self._copies.add(folder)
        (folder / "store").mkdir(parents=True)
        for path in (made / "store").iterdir():
            if path.name.partition("-")[0] in stages:
                shutil.copytree(path, folder / "store" / path.name)
        return folder

    def baseline(self, options: str = "") -> Baseline:
        """The run that nothing disturbs."""
        if options not in self._baselines:
            folder = self.folder(f"baseline-{len(self._baselines)}")
            expect(done(folder, self.pretrain(options)))
            self._copies.remove(folder)
            self._baselines[options] = Baseline.of(folder)
        return self._baselines[options]

    def tidy(self) -> None:
        """Delete the folders of experiments, not what they are copied from and compared with."""
        for folder in self._copies:
            shutil.rmtree(folder)
        self._copies.clear()

    def _prepared(self) -> Path:
        """Everything before training."""
        return self._made("prepared", lambda folder: done(folder, f"run {self.config} --until shards"))

    def _whole(self) -> Path:
        """A run brought to its report."""
        return self._made("whole", lambda folder: done(folder, f"run {self.config}"))

    def _interrupted(self) -> Path:
        """A pretraining that was stopped half-way, with two checkpoints."""

        def stop(folder: Path) -> Ended:
            shutil.copytree(self._prepared() / "store", folder / "store")
            folio = LaunchedFolio(folder, self.pretrain())
            folio.reach(STOPPED_AT)
            folio.process.terminate()
            return folio.end()

        return self._made("interrupted", stop, code=75)

    def _made(self, name: str, make: Callable[[Path], Ended], code: int = 0) -> Path:
        folder = self.root / name
        if name not in self._finished:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            expect(make(folder), code)
            self._finished.add(name)
        return folder


def expect(ended: Ended, code: int = 0) -> None:
    """Stop the experiment where what it builds on went wrong."""
    if ended.code != code:
        raise RuntimeError(f"the preparation left with {ended.code}, not {code}: {ended.said}")


def artifact(folder: Path, stage: str) -> Path:
    (found,) = folder.glob(f"store/{stage}-*")
    return found


def manifest(folder: Path, stage: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((artifact(folder, stage) / "manifest.json").read_text())
    return content


def losses(folder: Path) -> Losses:
    """What metrics.jsonl says of each step and evaluation of pretraining, in its order."""
    path = artifact(folder, "pretrain") / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    names = ("train_nats_per_token", "evaluation_nats_per_token")
    return [
        ((line["step"], name), math.nan if line[name] is None else line[name])
        for line in lines
        for name in names
        if name in line
    ]


def deviation(found: Losses, baseline: Losses) -> float:
    """The largest relative difference so far; infinite if a step is missing, twice there or at another place."""
    if [key for key, _ in found] != [key for key, _ in baseline[: len(found)]]:
        return math.inf
    pairs = [(loss, other) for (_, loss), (_, other) in zip(found, baseline, strict=False)]
    return max((0.0 if loss == other else abs(loss - other) / abs(other) for loss, other in pairs), default=0.0)


def last_step(folder: Path) -> int:
    """The last step that a training of the folder had done."""
    return max((step for (step, _), _ in losses(folder)), default=0) if list(folder.glob("store/pretrain-*")) else 0


def leftovers(folder: Path) -> list[str]:
    """Files and folders below the store that only exist while something is being written."""
    return sorted(path.name for pattern in LEFTOVERS for path in (folder / "store").rglob(pattern))


def newest_checkpoint(folder: Path) -> Path:
    return sorted(artifact(folder, "pretrain").glob("checkpoints/step-????????"))[-1]


def result(folder: Path, stage: str) -> Any:
    """What has to be the same in two runs of one config: texts and tokens to the last byte, weights, figures."""
    if stage == "report":
        report = json.loads((artifact(folder, stage) / "report.json").read_text())
        return {section: report[section] for section in SECTIONS}
    entries = manifest(folder, stage)["files"]
    if stage in ("pretrain", "scratch", "finetune"):
        # Beside the weights lie logs and times; which checkpoints are kept depends on the interruptions.
        entries = [one for one in entries if one["path"].endswith(".safetensors") and "checkpoints/" not in one["path"]]
    return [(entry["path"], entry["sha256"]) for entry in entries]
