"""Was the comparison fair? Every answer is read from the artifacts, none is assumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from pipeline.evaluation.arms import TrainedArm, TrialRecord
from pipeline.graph.work import Artifact
from pipeline.saved_models.weights import load_shape
from pipeline.tokens.tokenizer import Tokenizer

Inputs = Mapping[str, Artifact]


def controls(inputs: Inputs, arms: Sequence[TrainedArm], tokenizer: Tokenizer) -> dict[str, bool]:
    """Name of each control -> whether it held. Those of a comparison only where two arms are compared."""
    trained = [inputs[name] for name in ("pretrain", "scratch", "finetune") if name in inputs]
    found = {
        "same_tokenizer": _same_input("tokenizer", [inputs["shards"], *trained], inputs)
        and tokenizer.sha256 == inputs["tokenizer"].manifest.counts["sha256"],
        "same_model": len({_shape(artifact) for artifact in trained}) == 1,
        "same_split": _same_input("shards", trained, inputs) and _same_input("target", [inputs["shards"]], inputs),
        "best_step_has_lowest_selection_loss": all(_is_best(trial) for arm in arms for trial in arm.trials),
        "best_learning_rate_has_lowest_selection_loss": all(_is_best_rate(arm) for arm in arms),
        "selection_text_is_not_validation_text": _texts_differ(inputs["target"].folder),
    }
    if len(arms) > 1:
        found |= _comparison_controls(inputs, arms)
    return found


def _comparison_controls(inputs: Inputs, arms: Sequence[TrainedArm]) -> dict[str, bool]:
    found = {
        "same_grid_size": len({len(arm.grid) for arm in arms}) == 1,
        "same_number_of_seeds": len({len(arm.trials) for arm in arms}) == 1,
        "finetuned_from_this_pretraining": _same_input("pretrain", [inputs["finetune"]], inputs),
    }
    if "corpus" in inputs:
        left = inputs["shards"].manifest.counts.get("val_ngrams_left_in_shards")
        found["no_validation_ngrams_in_shards"] = left == 0
    return found


def _same_input(stage: str, readers: Sequence[Artifact], inputs: Inputs) -> bool:
    """Whether every reader was made from this run's artifact of the stage."""
    fingerprint = inputs[stage].manifest.fingerprint
    return all(reader.manifest.inputs.get(stage) == fingerprint for reader in readers)


def _shape(artifact: Artifact) -> str:
    """The shape but for dropout, which is a matter of training and may differ between arms."""
    return str(asdict(replace(load_shape(artifact.folder / "model.json"), dropout=0.0)))


def _is_best(trial: TrialRecord) -> bool:
    losses = {point["step"]: point["selection_nats_per_token"] for point in trial.curve}
    finite = [loss for loss in losses.values() if loss is not None]
    return losses.get(trial.best_step) == min(finite, default=None) == trial.best_selection_nats_per_token


def _is_best_rate(arm: TrainedArm) -> bool:
    losses = {entry["learning_rate"]: entry["best_selection_nats_per_token"] for entry in arm.grid}
    finite = {rate: loss for rate, loss in losses.items() if loss is not None}  # None: diverged
    return bool(finite) and min(finite, key=finite.__getitem__) == arm.learning_rate


def _texts_differ(target: Path) -> bool:
    """Whether neither selection nor train text holds the validation text, nor is held by it."""
    validation = (target / "validation.txt").read_text(encoding="utf-8")
    others = [(target / f"{name}.txt").read_text(encoding="utf-8") for name in ("selection", "train")]
    return not any(other and (other in validation or validation in other) for other in others)
