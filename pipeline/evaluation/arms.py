"""What the training stages left behind for the comparison: trials, chosen learning rates, curves."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.graph.work import Artifact


@dataclass(frozen=True)
class TrialRecord:
    """One training of an arm: its learning rate, its seed, where it was best, and its curve over steps.

    `curve` holds {step, train_nats_per_token, selection_nats_per_token} per evaluation.
    """

    folder: Path
    learning_rate: float
    seed: int
    steps: int
    best_step: int
    best_selection_nats_per_token: float
    curve: tuple[dict[str, Any], ...]

    @property
    def best(self) -> Path:
        return self.folder / "best.safetensors"

    @property
    def last(self) -> Path:
        return self.folder / "last.safetensors"

    @property
    def scorable(self) -> bool:
        return self.best.exists() and self.last.exists()


@dataclass(frozen=True)
class TrainedArm:
    """One arm of the comparison: the trials of its chosen learning rate by seed, and the grid it was chosen from."""

    name: str
    model_json: Path
    learning_rate: float
    grid: tuple[dict[str, Any], ...]
    trials: tuple[TrialRecord, ...]
    diverged_seeds: tuple[int, ...] = ()  # left nothing to score

    def description(self) -> dict[str, Any]:
        """The report's fields about how the arm was trained; steps are those of the median seed."""
        return {
            "learning_rate": self.learning_rate,
            "steps": statistics.median_low(trial.steps for trial in self.trials),
            "best_step": statistics.median_low(trial.best_step for trial in self.trials),
            "seeds": [trial.seed for trial in self.trials],
            "steps_per_seed": [trial.steps for trial in self.trials],
            "best_step_per_seed": [trial.best_step for trial in self.trials],
            "grid": list(self.grid),
        }


def read_arm(artifact: Artifact) -> TrainedArm:
    """The arm of a finished scratch or finetune artifact. Raises DataError if it left no weights."""
    counts = artifact.manifest.counts
    trials = [read_trial(path) for path in sorted(artifact.folder.glob("trials/*/trial.json"))]
    chosen = sorted((trial for trial in trials if trial.learning_rate == counts["learning_rate"]), key=_seed)
    if not any(trial.scorable for trial in chosen):
        raise DataError(
            f"{artifact.folder} has no weights of the chosen learning rate {counts['learning_rate']:g}.",
            remedy=f"Delete that folder and run stage {artifact.stage} again.",
        )
    return TrainedArm(
        name=artifact.stage,
        model_json=artifact.folder / "model.json",
        learning_rate=counts["learning_rate"],
        grid=tuple(counts["grid"]),
        trials=tuple(trial for trial in chosen if trial.scorable),
        diverged_seeds=tuple(trial.seed for trial in chosen if not trial.scorable),
    )


def _seed(trial: TrialRecord) -> int:
    return trial.seed


def read_trial(path: Path) -> TrialRecord:
    """The trial described by a trial.json. Raises DataError if it is damaged."""
    try:
        record = json.loads(path.read_bytes())
        fields = {name: record[name] for name in TrialRecord.__dataclass_fields__ if name != "folder"}
    except (ValueError, KeyError) as error:
        raise DataError(
            f"{path} is damaged ({error}).", remedy=f"Delete {path.parents[2]} and run its stage again."
        ) from None
    return TrialRecord(folder=path.parent, **{**fields, "curve": tuple(fields["curve"])})
