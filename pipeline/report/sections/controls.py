"""Section `controls`: was the comparison fair? Every answer is read from the artifacts, none is assumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.corpus.target_splits import target_parts, target_text
from pipeline.evaluation.arms import TrainedArm
from pipeline.graph.stage_counts import ShardsCounts, TokenizerCounts
from pipeline.graph.work import Artifact
from pipeline.report.finished_run import FinishedRun
from pipeline.report.run_scores import RunScores
from pipeline.report.section_records import ReportedControls
from pipeline.saved_models.model_files import SHAPE
from pipeline.saved_models.trial_record import TrialRecord
from pipeline.saved_models.weights import load_shape

FEWEST_ALIKE = 50  # characters: shorter parts, such as short messages, may stand in any text


def controls_section(run: FinishedRun, scores: RunScores) -> ReportedControls:
    """Whether each control held. Those of a comparison only where two arms are compared."""
    artifacts, shards = run.artifacts, run.artifacts["shards"]
    trained = [artifacts[name] for name in ("pretrain", "scratch", "finetune") if name in artifacts]
    trials = [record for arm in run.arms for record in arm.grid_records]
    counted_tokenizer = artifacts["tokenizer"].counts_as(TokenizerCounts)
    return ReportedControls(
        # The file itself is hashed as well: a manifest only says what it was when its stage ended.
        same_tokenizer=_same_input("tokenizer", [shards, *trained], run)
        and run.tokenizer.sha256 == counted_tokenizer.sha256,
        same_model=len({_shape(artifact) for artifact in trained}) == 1,
        same_split=_same_input("shards", trained, run) and _same_input("target", [shards], run),
        best_step_has_lowest_selection_loss=all(_is_best_step(trial) for trial in trials),
        best_learning_rate_has_lowest_selection_loss=all(_is_best_rate(arm) for arm in run.arms),
        selection_text_is_not_validation_text=_texts_differ(artifacts["target"].folder),
        refits_follow_the_best_trial=all(_follows_the_best(arm, run) for arm in run.arms),
        **(_comparison_controls(run) if len(run.arms) > 1 else {}),
        same_windows=_same_windows(scores),
    )


def _comparison_controls(run: FinishedRun) -> dict[str, Any]:
    held = {
        "same_grid_size": len({len(arm.grid) for arm in run.arms}) == 1,
        "same_number_of_seeds": len({len(arm.trials) for arm in run.arms}) == 1,
        "finetuned_from_this_pretraining": _same_input("pretrain", [run.artifacts["finetune"]], run),
    }
    if "corpus" in run.artifacts:
        # None, not counted, is not zero: a control that was not checked has not held.
        left = run.artifacts["shards"].counts_as(ShardsCounts).val_ngrams_left_in_shards
        held["no_validation_ngrams_in_shards"] = left == 0
    return held


def _same_input(stage: str, readers: Sequence[Artifact], run: FinishedRun) -> bool:
    """Whether every reader was made from this run's artifact of the stage."""
    fingerprint = run.artifacts[stage].manifest.fingerprint
    return all(reader.manifest.inputs.get(stage) == fingerprint for reader in readers)


def _shape(artifact: Artifact) -> str:
    """The shape but for dropout, which is a matter of training and may differ between arms."""
    return str(asdict(replace(load_shape(artifact.folder / SHAPE), dropout=0.0)))


def _is_best_step(trial: TrialRecord) -> bool:
    losses: dict[int | None, float | None] = {point.step: point.selection_nats_per_token for point in trial.curve}
    finite = [loss for loss in losses.values() if loss is not None]
    return losses.get(trial.best_step) == min(finite, default=None) == trial.best_selection_nats_per_token


def _is_best_rate(arm: TrainedArm) -> bool:
    losses = {trial.learning_rate: trial.best_selection_nats_per_token for trial in arm.grid}
    finite = {rate: loss for rate, loss in losses.items() if loss is not None}  # None: diverged
    return bool(finite) and min(finite, key=finite.__getitem__) == arm.learning_rate


def _texts_differ(target: Path) -> bool:
    """Whether no part of the text that trains or chooses holds the validation text, or is held by it."""
    validation = target_text(target, "validation")
    others = [*target_parts(target, "selection"), *target_parts(target, "refit")]
    return not any(other in validation or validation in other for other in others if len(other) >= FEWEST_ALIKE)


def _follows_the_best(arm: TrainedArm, run: FinishedRun) -> bool:
    """Whether each refit has the best trial's rate, and as many epochs of its larger text as were best there."""
    if not arm.refitted:
        return not any(trial.record.refit for trial in arm.trials)
    shards, best = run.artifacts["shards"].counts_as(ShardsCounts), arm.best_of_grid
    epochs = [
        steps / tokens
        for steps, tokens in (
            (best.best_step or 0, shards.target_train.tokens),
            *((record.steps, shards.target_refit.tokens) for record in (trial.record for trial in arm.trials)),
        )
    ]
    same_rate = all(trial.record.learning_rate == best.learning_rate for trial in arm.trials)
    # Whole steps, and whole samples in an epoch: a few percent of a short training.
    return same_rate and all(abs(own / epochs[0] - 1) < 0.05 + 1 / (best.best_step or 1) for own in epochs)


def _same_windows(scores: RunScores) -> bool:
    """Whether all arms were scored on as many tokens in each window."""
    tokens = [losses.tokens for arm in scores.arms.values() for losses in (arm.best, arm.last)]
    return all(np.array_equal(tokens[0], other) for other in tokens)
