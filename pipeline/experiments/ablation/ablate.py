"""`folio ablate`: does one more feature help (the lecture's exercise EX4)? Each change against the baseline.

A changed config is an ordinary config, trained by the ordinary stage into the ordinary store: all of them share target,
corpus, tokenizer and shards, continue after an interruption, and are not trained again once they are finished. Each is
trained with the same seeds, and so on the same batches. Two questions are asked:

    matched tokens   as many tokens as the baseline: is the model better?
    matched time     as many tokens as it can train on in the baseline's time: is it worth its cost?

Parameters are matched for both, by the width of the feed-forward layers. The loss on the target's selection text is
compared, never that on its validation text, so that a feature chosen here leaves the reported gain honest.
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
from pipeline.evaluation.scoring import score_windows
from pipeline.experiments.ablation.changed_configs import ChangedConfig, changed_configs
from pipeline.experiments.ablation.speed import tokens_per_second
from pipeline.experiments.ablation.training_jobs import TrainingJob, train_all, with_section, with_share
from pipeline.graph.fingerprints import fingerprints
from pipeline.graph.runner import Selection, run_nodes
from pipeline.graph.stage_counts import PretrainCounts, ShardsCounts
from pipeline.graph.store import Store
from pipeline.graph.work import Artifact
from pipeline.runtime.files import write_text
from pipeline.runtime.formatting import counted
from pipeline.runtime.memory import keep_freed_memory
from pipeline.runtime.precision import default_device
from pipeline.runtime.progress import Progress
from pipeline.runtime.threads import fixed_threads
from pipeline.saved_models.model_files import SHAPE, WEIGHTS
from pipeline.saved_models.weights import load_model
from pipeline.tokens.scoring_windows import ScoringWindows
from pipeline.tokens.shard import target_shard
from pipeline.tokens.tokenizer import load_tokenizer

FORMAT = 1
SAME_SPEED = 0.02  # speeds that differ by at most this share count as equal: one training answers both questions
SPEEDS = "speeds.json"


@dataclass(frozen=True)
class TrainedSeeds:
    """The trainings of one config, one per seed, under one matching."""

    tokens: int  # that one seed was trained on
    losses: Losses  # of the selection text
    peak_memory_bytes: int  # of the largest rank


@dataclass(frozen=True)
class ChangeResult:
    """A changed config, its speed, and its trainings; `by_time` is None where its speed is that of the baseline."""

    changed: ChangedConfig
    tokens_per_second: float
    by_tokens: TrainedSeeds
    by_time: TrainedSeeds | None


@dataclass(frozen=True)
class AblationResults:
    """Every result, the baseline's first."""

    folder: Path
    results: tuple[ChangeResult, ...]
    bits_per_nat: float  # one nat per token in bits per byte of the selection text
    git_commit: str  # of every training; several where it was interrupted in between


def ablate(config: Config, store: Store, jobs: int = 1) -> AblationResults:
    """Train what is not trained yet, `jobs` trainings at a time, and score it.

    Raises ConfigError for impossible changes, before anything runs.
    """
    stage, progress = config.ablation.stage, Progress("ablation")
    configs = changed_configs(config)
    folder = _folder(store, config, configs)
    seeds = counted(len(config.ablation.seeds), "seed")
    progress.say(f"{counted(len(configs) - 1, 'change')} of {stage}, {seeds} each, into {folder}")
    inputs = run_nodes(config, store, Selection(last="shards"))
    whole = {changed.name: 1.0 for changed in configs}
    by_tokens = _train(configs, whole, config, store, jobs, progress)
    speeds = _speeds(folder, configs, stage, progress)
    shares = {name: speed / speeds["baseline"] for name, speed in speeds.items()}
    # Rounded, so that the number of tokens, and with it the artifact, does not depend on the last digits of a timing.
    apart = {name: round(share, 2) for name, share in shares.items() if abs(share - 1) > SAME_SPEED}
    by_time = _train(configs, apart, config, store, jobs, progress)
    with fixed_threads(config.launch.threads or torch.get_num_threads()):
        text = _SelectionText.of(inputs, config.model.context)
        results = [
            ChangeResult(
                changed,
                speeds[changed.name],
                text.scored(by_tokens[changed.name], stage),
                text.scored(by_time[changed.name], stage) if changed.name in by_time else None,
            )
            for changed in configs
        ]
    return AblationResults(folder, tuple(results), text.bits_per_nat, _commits([by_tokens, by_time]))


def _folder(store: Store, config: Config, configs: Sequence[ChangedConfig]) -> Path:
    """Where the speeds are kept, named after everything that is trained."""
    stage = config.ablation.stage
    parts = [
        FORMAT,
        list(config.ablation.seeds),
        {changed.name: fingerprints(changed.config)[stage] for changed in configs},
    ]
    folder = store.root / f"ablation-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _train(
    configs: Sequence[ChangedConfig],
    shares: Mapping[str, float],
    config: Config,
    store: Store,
    jobs: int,
    progress: Progress,
) -> dict[str, list[Artifact]]:
    """The artifacts, by name, of each config that has a share of the tokens in `shares`."""
    stage, seeds = config.ablation.stage, config.ablation.seeds
    # An arm trains all its seeds into one artifact, pretraining one.
    # Its trials are compared on the selection text, on which a refit would be trained.
    rounds = [{"seeds": seeds, "refit": False}] if stage == "scratch" else [{"seed": seed} for seed in seeds]
    # Seeds outside, so that the trainings of one config are spread over the hours, and other load hits all alike.
    trainings = [
        TrainingJob(
            changed.name, with_share(with_section(changed.config, stage, **chosen), stage, shares[changed.name])
        )
        for chosen in rounds
        for changed in configs
        if changed.name in shares
    ]
    artifacts: dict[str, list[Artifact]] = {}
    finished = train_all(trainings, stage, store, jobs, progress)
    for training, artifact in zip(trainings, finished, strict=True):
        artifacts.setdefault(training.name, []).append(artifact)
    return artifacts


def _speeds(folder: Path, configs: Sequence[ChangedConfig], stage: str, progress: Progress) -> dict[str, float]:
    """Tokens a second by name, measured once and kept: other speeds would ask for other trainings."""
    path = folder / SPEEDS
    if not path.exists():
        keep_freed_memory()
        speeds = tokens_per_second({changed.name: changed.config for changed in configs}, stage, progress)
        write_text(path, json.dumps(speeds, indent=1) + "\n")
    # Read back also when just measured, so that the first call and the next compute with the same digits.
    kept: dict[str, float] = json.loads(path.read_bytes())
    return kept


def _commits(trained: Sequence[Mapping[str, Sequence[Artifact]]]) -> str:
    artifacts = [artifact for by_name in trained for several in by_name.values() for artifact in several]
    return ", ".join(sorted({artifact.manifest.git_commit for artifact in artifacts}))


@dataclass(frozen=True)
class _SelectionText:
    """The selection text in windows; one nat per token of it is `bits_per_nat` bits per byte."""

    windows: ScoringWindows
    bits_per_nat: float
    device: torch.device

    @classmethod
    def of(cls, artifacts: Mapping[str, Artifact], context: int) -> _SelectionText:
        tokenizer, shards = load_tokenizer(artifacts["tokenizer"].folder), artifacts["shards"]
        path = target_shard(shards.folder, "selection")
        windows = ScoringWindows.of_shard(path, tokenizer_sha256=tokenizer.sha256, context=context, stride=None)
        totals = shards.counts_as(ShardsCounts).target_selection
        return cls(windows, bits_per_byte(totals.tokens, totals.bytes), default_device())

    def scored(self, artifacts: Sequence[Artifact], stage: str) -> TrainedSeeds:
        scores = []
        for weights, shape in (files for artifact in artifacts for files in _model_files(artifact, stage)):
            model = load_model(weights, shape, self.device)
            scores.append(score_windows(model, self.windows.inputs, self.windows.targets, self.device))
        return TrainedSeeds(
            tokens=_tokens(artifacts[0], stage),
            losses=Losses(np.stack([nats for nats, _ in scores]), scores[0][1]),
            peak_memory_bytes=max(artifact.manifest.peak_memory_bytes for artifact in artifacts),
        )


def _model_files(artifact: Artifact, stage: str) -> list[tuple[Path, Path]]:
    """Weights and shape of every seed that the artifact holds; of an arm those of each seed's best step."""
    shape = artifact.folder / SHAPE
    if stage == "pretrain":
        return [(artifact.folder / WEIGHTS, shape)]
    return [(weights, shape) for weights in read_arm(artifact).weights]


def _tokens(artifact: Artifact, stage: str) -> int:
    """Tokens that one seed was trained on."""
    if stage == "pretrain":
        return artifact.counts_as(PretrainCounts).tokens
    # An arm counts the tokens of its whole grid; one seed has the planned steps, in batches that the text could fill.
    return int(artifact.manifest.config[stage]["max_steps"]) * read_arm(artifact).batch_tokens
