"""`folio ablate`: does one more feature help (the lecture's exercise EX4)? Each change against the baseline.

A variant is an ordinary config, trained by the ordinary stage into the ordinary store: variants share target, corpus,
tokenizer and shards, go on after an interruption, and what is finished is not repeated. Every variant is trained with
the same seeds, thus on the same batches. Two questions are asked:

    matched tokens   as many tokens as the baseline: is the model better?
    matched time     as many tokens as the variant manages in the baseline's time: is it worth its cost?

Parameters are matched for both, by the width of the feed-forward layers. What is compared is the loss on the target's
selection text, never on its validation text, so that a feature chosen here leaves the reported gain honest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.config.schema import Config
from pipeline.evaluation.arms import read_arm
from pipeline.evaluation.bits_per_byte import bits_per_byte
from pipeline.evaluation.intervals import Losses
from pipeline.evaluation.scoring import fixed_threads, score_windows
from pipeline.experiments.ablation.changed_configs import ChangedConfig, changed_configs
from pipeline.experiments.ablation.speed import tokens_per_second
from pipeline.experiments.ablation.training_jobs import TrainingJob, carried_out, with_section, with_share
from pipeline.graph.fingerprints import fingerprints
from pipeline.graph.runner import Selection, run_nodes
from pipeline.graph.store import Store
from pipeline.graph.work import Artifact
from pipeline.runtime.files import write_text
from pipeline.runtime.formatting import counted
from pipeline.runtime.memory import keep_freed_memory
from pipeline.runtime.progress import Progress
from pipeline.saved_models.weights import load_model
from pipeline.tokens.scoring_windows import ScoringWindows
from pipeline.tokens.tokenizer import load_tokenizer

FORMAT = 1
SAME_SPEED = 0.02  # a smaller difference in speed is none: matched tokens are matched time
SPEEDS = "speeds.json"


@dataclass(frozen=True)
class Trained:
    """What a variant became under one matching."""

    tokens: int  # that one seed was trained on
    losses: Losses  # of the selection text
    peak_memory_bytes: int  # of the largest rank


@dataclass(frozen=True)
class ChangeResult:
    """A variant, its speed in tokens a second, and what it became; `by_time` is None where its speed is the same."""

    variant: ChangedConfig
    tokens_per_second: float
    by_tokens: Trained
    by_time: Trained | None


@dataclass(frozen=True)
class AblationResults:
    """Every outcome, the baseline's first; `bits` is one nat per token in bits per byte of the selection text."""

    folder: Path
    outcomes: tuple[ChangeResult, ...]
    bits: float
    git_commit: str  # of every training; several where it was interrupted in between


def ablate(config: Config, store: Store, jobs: int = 1) -> AblationResults:
    """Train what is not trained yet, `jobs` trainings at a time, and score it.

    Raises ConfigError for impossible changes, before anything runs.
    """
    stage, progress = config.ablation.stage, Progress("ablation")
    kinds = changed_configs(config)
    folder = _folder(store, config, kinds)
    seeds = counted(len(config.ablation.seeds), "seed")
    progress.say(f"{counted(len(kinds) - 1, 'change')} of {stage}, {seeds} each, into {folder}")
    inputs = run_nodes(config, store, Selection(last="shards"))
    by_tokens = _trained(kinds, dict.fromkeys((kind.name for kind in kinds), 1.0), config, store, jobs, progress)
    speeds = _speeds(folder, kinds, stage, progress)
    shares = {name: speed / speeds["baseline"] for name, speed in speeds.items()}
    apart = {name: round(share, 2) for name, share in shares.items() if abs(share - 1) > SAME_SPEED}
    by_time = _trained(kinds, apart, config, store, jobs, progress)
    with fixed_threads(config.launch.threads or torch.get_num_threads()):
        text = _Text.of(inputs, config.model.context)
        outcomes = [
            ChangeResult(
                kind,
                speeds[kind.name],
                text.scored(by_tokens[kind.name], stage),
                text.scored(by_time[kind.name], stage) if kind.name in by_time else None,
            )
            for kind in kinds
        ]
    made = [artifact for each in (by_tokens, by_time) for artifacts in each.values() for artifact in artifacts]
    commits = sorted({artifact.manifest.git_commit for artifact in made})
    return AblationResults(folder, tuple(outcomes), text.bits, ", ".join(commits))


def _folder(store: Store, config: Config, kinds: Sequence[ChangedConfig]) -> Path:
    """Where the speeds are kept, named after everything that is trained."""
    stage = config.ablation.stage
    parts = [FORMAT, list(config.ablation.seeds), {kind.name: fingerprints(kind.config)[stage] for kind in kinds}]
    folder = store.root / f"ablation-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _trained(
    kinds: Sequence[ChangedConfig],
    shares: Mapping[str, float],
    config: Config,
    store: Store,
    jobs: int,
    progress: Progress,
) -> dict[str, list[Artifact]]:
    """The artifacts of each variant that has a share of the tokens; seeds outside, so that a variant's trainings are
    spread over the hours."""
    stage, seeds = config.ablation.stage, config.ablation.seeds
    # An arm trains all its seeds into one artifact, pretraining one.
    rounds = [{"seeds": seeds}] if stage == "scratch" else [{"seed": seed} for seed in seeds]
    names = [kind.name for _ in rounds for kind in kinds if kind.name in shares]
    trainings = [
        TrainingJob(kind.name, with_share(with_section(kind.config, stage, **chosen), stage, shares[kind.name]))
        for chosen in rounds
        for kind in kinds
        if kind.name in shares
    ]
    found: dict[str, list[Artifact]] = {name: [] for name in names}
    for name, artifact in zip(names, carried_out(trainings, stage, store, jobs, progress), strict=True):
        found[name].append(artifact)
    return found


def _speeds(folder: Path, kinds: Sequence[ChangedConfig], stage: str, progress: Progress) -> dict[str, float]:
    """Tokens a second by variant, measured once: another measurement would ask for other trainings."""
    path = folder / SPEEDS
    if not path.exists():
        keep_freed_memory()
        speeds = tokens_per_second({kind.name: kind.config for kind in kinds}, stage, progress)
        write_text(path, json.dumps(speeds, indent=1) + "\n")
    found: dict[str, float] = json.loads(path.read_bytes())
    return found


@dataclass(frozen=True)
class _Text:
    """The selection text, ready to be scored; one nat per token of it is `bits` bits per byte."""

    windows: ScoringWindows
    bits: float
    device: torch.device

    @classmethod
    def of(cls, artifacts: Mapping[str, Artifact], context: int) -> _Text:
        tokenizer, shards = load_tokenizer(artifacts["tokenizer"].folder), artifacts["shards"]
        path = shards.folder / "target" / "selection.arrow"
        windows = ScoringWindows.of_shard(path, tokenizer_sha256=tokenizer.sha256, context=context, stride=None)
        text = shards.manifest.counts["target_selection"]
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return cls(windows, bits_per_byte(text["tokens"], text["bytes"]), device)

    def scored(self, artifacts: Sequence[Artifact], stage: str) -> Trained:
        scores = []
        for path, model_json in (file for artifact in artifacts for file in _weights(artifact, stage)):
            model = load_model(path, model_json, self.device)
            scores.append(score_windows(model, self.windows.inputs, self.windows.targets, self.device))
        return Trained(
            tokens=_tokens(artifacts[0], stage),
            losses=Losses(np.stack([nats for nats, _ in scores]), scores[0][1]),
            peak_memory_bytes=max(artifact.manifest.peak_memory_bytes for artifact in artifacts),
        )


def _weights(artifact: Artifact, stage: str) -> list[tuple[Path, Path]]:
    """Weights and shape of every seed that the artifact holds."""
    shape = artifact.folder / "model.json"
    if stage == "pretrain":
        return [(artifact.folder / "model.safetensors", shape)]
    return [(trial.best, shape) for trial in read_arm(artifact).trials]


def _tokens(artifact: Artifact, stage: str) -> int:
    if stage == "pretrain":
        return int(artifact.manifest.counts["tokens"])
    section = artifact.manifest.config[stage]
    return int(section["max_steps"] * section["batch_tokens"])
