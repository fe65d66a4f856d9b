"""What the training stages left behind for the comparison: an arm's trials, its chosen learning rate, its grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DataError
from pipeline.graph.stage_counts import ArmCounts, TrialSummary
from pipeline.graph.work import Artifact
from pipeline.saved_models.model_files import SHAPE
from pipeline.saved_models.trial_record import SavedTrial, saved_trials


@dataclass(frozen=True)
class TrainedArm:
    """One arm of the comparison: the trials of its chosen learning rate by seed, and the grid it was chosen from."""

    name: str
    model_json: Path
    learning_rate: float
    grid: tuple[TrialSummary, ...]
    trials: tuple[SavedTrial, ...]
    diverged_seeds: tuple[int, ...] = ()  # their trainings left no weights to score

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of its trials, ascending."""
        return tuple(trial.record.seed for trial in self.trials)

    @property
    def batch_tokens(self) -> int:
        """Tokens of the batches that it was trained on, which a short target makes smaller than its config asks for."""
        record = self.trials[0].record
        return record.tokens // max(record.steps, 1)

    @property
    def steps_per_seed(self) -> tuple[int, ...]:
        """Steps that each trial took; patience may have ended it before the planned number."""
        return tuple(trial.record.steps for trial in self.trials)

    @property
    def best_step_per_seed(self) -> tuple[int, ...]:
        """The step of each trial with the lowest loss on the selection split, whose weights are scored."""
        return tuple(_best_step(trial) for trial in self.trials)

    @property
    def best_weights(self) -> tuple[Path, ...]:
        """Weights of each trial's best step."""
        return tuple(trial.best for trial in self.trials)

    @property
    def last_weights(self) -> tuple[Path, ...]:
        """Weights of each trial's last step."""
        return tuple(trial.last for trial in self.trials)


def read_arm(artifact: Artifact) -> TrainedArm:
    """The arm of a finished scratch or finetune artifact.

    Raises DataError if the artifact is damaged or holds no weights of the chosen learning rate.
    """
    counts = artifact.counts_as(ArmCounts)
    trials = saved_trials(artifact.folder)
    # Exact comparison: both numbers are the same float of the config, written by the same stage.
    chosen = sorted((trial for trial in trials if trial.record.learning_rate == counts.learning_rate), key=_seed)
    # A seed that diverged before its first evaluation has a trial.json and no weights.
    scorable = tuple(trial for trial in chosen if trial.scorable)
    if not scorable:
        raise DataError(
            f"{artifact.folder} has no weights of the chosen learning rate {counts.learning_rate:g}.",
            remedy=f"Delete that folder and run stage {artifact.stage} again.",
        )
    return TrainedArm(
        name=artifact.stage,
        model_json=artifact.folder / SHAPE,
        learning_rate=counts.learning_rate,
        grid=counts.grid,
        trials=scorable,
        diverged_seeds=tuple(trial.record.seed for trial in chosen if not trial.scorable),
    )


def _seed(trial: SavedTrial) -> int:
    return trial.record.seed


def _best_step(trial: SavedTrial) -> int:
    step = trial.record.best_step
    assert step is not None, "weights of a best step are only written after an evaluation with a finite loss"
    return step
