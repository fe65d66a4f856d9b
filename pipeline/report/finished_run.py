"""What a report is about: the finished artifacts of a run and its variants, opened once for every section to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.schema import ReportSection
from pipeline.evaluation.arms import TrainedArm, read_arm
from pipeline.graph.stage_counts import PretrainCounts, StageCounts
from pipeline.graph.variants import LEAK
from pipeline.graph.work import Artifact, Work
from pipeline.saved_models.model_files import BRANCHES, WEIGHTS
from pipeline.saved_models.trial_record import SavedTrial, reported_trials
from pipeline.saved_models.weights import load_shape
from pipeline.tokens.scoring_windows import ScoringWindows
from pipeline.tokens.shard import target_shard
from pipeline.tokens.tokenizer import Tokenizer, load_tokenizer

Artifacts = Mapping[str, Artifact]  # by stage
Files = dict[Path, Path]  # weights to score -> shape of their model


@dataclass(frozen=True)
class PretrainingPoint:
    """One length of pretraining: its weights before finetuning, and its best finetuning on the first seed."""

    tokens: int
    pretrained: Path
    finetuned: SavedTrial


@dataclass(frozen=True)
class PretrainedArm:
    """A model pretrained on the corpus and the arm that was finetuned from it."""

    pretrained: Path  # weights
    finetune: TrainedArm

    @classmethod
    def of(cls, artifacts: Artifacts) -> PretrainedArm:
        return cls(artifacts["pretrain"].folder / WEIGHTS, read_arm(artifacts["finetune"]))

    @property
    def files(self) -> Files:
        """Its weights: as pretrained, and of each finetuned seed."""
        shape = self.finetune.model_json
        return {self.pretrained: shape, **dict.fromkeys(self.finetune.weights, shape)}


@dataclass(frozen=True)
class Rival:
    """One rival's arm, and the validation text in windows of its own tokenizer and context."""

    name: str
    changes: Mapping[str, Any]  # config keys and their values
    arm: TrainedArm
    windows: ScoringWindows
    same_windows: bool  # as those of the run's own arms

    @property
    def files(self) -> Files:
        return dict.fromkeys((*self.arm.weights, *self.arm.last_weights), self.arm.model_json)


@dataclass(frozen=True)
class ModelSize:
    """A model of another size, or the run's own: trained from scratch, and pretrained and finetuned."""

    name: str
    pretraining_tokens: int
    scratch: TrainedArm
    tuned: PretrainedArm

    @classmethod
    def of(cls, name: str, artifacts: Artifacts) -> ModelSize:
        tokens = artifacts["pretrain"].counts_as(PretrainCounts).tokens
        return cls(name, tokens, read_arm(artifacts["scratch"]), PretrainedArm.of(artifacts))

    @property
    def weights(self) -> tuple[Path, Path, Path]:
        """Of the first seed: from scratch, pretrained, finetuned."""
        return self.scratch.weights[0], self.tuned.pretrained, self.tuned.finetune.weights[0]

    @property
    def files(self) -> Files:
        return dict.fromkeys(self.weights, self.scratch.model_json)


@dataclass(frozen=True)
class FinishedRun:
    """A run that is finished but for its report."""

    artifacts: Artifacts  # of the run itself
    by_name: Mapping[str, Artifact]  # these, then those of its variants, named as `folio plan` prints them
    config_slice: Mapping[str, Any]  # the report's own
    arms: tuple[TrainedArm, ...]  # scratch; finetune, if anything was pretrained
    tokenizer: Tokenizer
    windows: ScoringWindows  # of the validation text
    points: tuple[PretrainingPoint, ...]  # in order of their tokens, the whole pretraining last; empty without branches
    leak: PretrainedArm | None
    rivals: tuple[Rival, ...]
    sizes: tuple[ModelSize, ...]  # the run's own size last; empty without others

    @classmethod
    def of(cls, work: Work) -> FinishedRun:
        """Read what the stages left behind. Raises DataError if any of it is damaged."""
        artifacts, section = work.inputs, work.slice["report"]
        arms = tuple(read_arm(artifacts[name]) for name in ("scratch", "finetune") if name in artifacts)
        windows = _validation_windows(artifacts, arms[0], section)
        leak = work.variants.get(LEAK)
        return cls(
            artifacts=artifacts,
            by_name=work.reads,
            config_slice=work.slice,
            arms=arms,
            tokenizer=load_tokenizer(artifacts["tokenizer"].folder),
            windows=windows,
            points=_points(artifacts, arms),
            leak=PretrainedArm.of(leak) if leak else None,
            rivals=_rivals(work, windows, section),
            sizes=_sizes(work),
        )

    @property
    def imported_files(self) -> dict[str, str] | None:
        """The sha256 of each file that the pretrained weights were read from; None if they were not imported."""
        return _imported_files(self.artifacts)

    @property
    def section(self) -> ReportSection:
        section: ReportSection = self.config_slice["report"]
        return section


def _imported_files(artifacts: Artifacts) -> dict[str, str] | None:
    return artifacts["pretrain"].counts_as(StageCounts).imported_files if "pretrain" in artifacts else None


def _validation_windows(artifacts: Artifacts, arm: TrainedArm, section: ReportSection) -> ScoringWindows:
    """The target's validation split in windows of the arm's context. Raises DataError if another tokenizer wrote it."""
    return ScoringWindows.of_shard(
        target_shard(artifacts["shards"].folder, "validation"),
        tokenizer_sha256=load_tokenizer(artifacts["tokenizer"].folder).sha256,
        context=load_shape(arm.model_json).context,
        stride=section.stride,
    )


def _points(artifacts: Artifacts, arms: tuple[TrainedArm, ...]) -> tuple[PretrainingPoint, ...]:
    # Imported weights have no branches: their counts are another record, which says nothing of tokens.
    if "finetune" not in artifacts or _imported_files(artifacts) is not None:
        return ()
    pretrain, finetune = artifacts["pretrain"], artifacts["finetune"]
    counts = pretrain.counts_as(PretrainCounts)
    if not counts.branches:
        return ()
    branches = [
        PretrainingPoint(
            branch.tokens,
            pretrain.folder / BRANCHES / branch.branch / WEIGHTS,
            _best_trial(finetune.folder / BRANCHES / branch.branch),
        )
        for branch in counts.branches
    ]
    whole = PretrainingPoint(counts.tokens, pretrain.folder / WEIGHTS, arms[-1].trials[0])
    return (*branches, whole)


def _best_trial(branch: Path) -> SavedTrial:
    """What is reported of a branch: its refit, or the trial with the lowest loss on the selection split."""
    return min(reported_trials(branch), key=lambda trial: trial.record.selection_loss)


def _rivals(work: Work, windows: ScoringWindows, section: ReportSection) -> tuple[Rival, ...]:
    """In the order of the config."""
    return tuple(
        _rival(variant.name, artifacts, work.inputs, windows, section)
        for variant, artifacts in work.variants.items()
        if variant.kind == "rival"
    )


def _rival(name: str, artifacts: Artifacts, own: Artifacts, windows: ScoringWindows, section: ReportSection) -> Rival:
    """`artifacts` are the rival's; what it did not make again is the run's `own`."""
    arm, changes = read_arm(artifacts["scratch"]), section.rivals[name]
    context = load_shape(arm.model_json).context
    # The same tokens in windows of the same length are the same windows: only then can losses be paired.
    if "shards" not in artifacts and context == windows.inputs.shape[1]:
        return Rival(name, changes, arm, windows, same_windows=True)
    return Rival(name, changes, arm, _validation_windows({**own, **artifacts}, arm, section), same_windows=False)


def _sizes(work: Work) -> tuple[ModelSize, ...]:
    others = [
        ModelSize.of(variant.name, artifacts) for variant, artifacts in work.variants.items() if variant.kind == "size"
    ]
    return (*others, ModelSize.of("this run", work.inputs)) if others else ()
