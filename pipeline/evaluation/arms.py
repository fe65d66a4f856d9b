"""What the training stages left behind for the comparison: an arm's trials, its chosen learning rate, its grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DataError
from pipeline.graph.stage_counts import ArmCounts, TrialSummary
from pipeline.graph.work import Artifact
from pipeline.saved_models.model_files import SHAPE
from pipeline.saved_models.trial_record import SavedTrial, TrialRecord, saved_trials


@dataclass(frozen=True)
class TrainedArm:
    """One arm of the comparison: what is reported by seed (`training/trials.py`), and the grid that chose for it."""

    name: str
    model_json: Path
    learning_rate: float
    grid: tuple[TrialSummary, ...]
    trials: tuple[SavedTrial, ...]  # reported: refits, or trials of the chosen learning rate
    grid_records: tuple[TrialRecord, ...]  # in the order of `grid`
    diverged_seeds: tuple[int, ...] = ()  # their trainings left no weights to score

    @property
    def refitted(self) -> bool:
        """Whether what is reported was trained on all text that may be, and not evaluated on the way."""
        return all(trial.record.refit for trial in self.trials)

    @property
    def best_of_grid(self) -> TrialSummary:
        """The trial that chose learning rate and stopping."""
        return next(trial for trial in self.grid if trial.learning_rate == self.learning_rate)

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
        """Steps that each took; patience may have ended a trial before the planned number."""
        return tuple(trial.record.steps for trial in self.trials)

    @property
    def best_step_per_seed(self) -> tuple[int, ...]:
        """The step of each whose weights are scored: a refit's last, a trial's with the lowest selection loss."""
        return tuple(_step(trial) for trial in self.trials)

    @property
    def weights(self) -> tuple[Path, ...]:
        """Weights of those steps."""
        return tuple(trial.weights for trial in self.trials)

    @property
    def last_weights(self) -> tuple[Path, ...]:
        """Weights of the last step of each."""
        return tuple(trial.last for trial in self.trials)


def read_arm(artifact: Artifact) -> TrainedArm:
    """The arm of a finished scratch or finetune artifact.

    Raises DataError if the artifact is damaged or holds no weights of the chosen learning rate.
    """
    counts = artifact.counts_as(ArmCounts)
    trials = {trial.record.summary(): trial for trial in saved_trials(artifact.folder)}
    # By what the stage says of them: numbers are the same floats, written by the same stage.
    chosen = sorted((trials[summary] for summary in counts.trials if summary in trials), key=_seed)
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
        grid_records=tuple(trials[summary].record for summary in counts.grid if summary in trials),
        diverged_seeds=tuple(trial.record.seed for trial in chosen if not trial.scorable),
    )


def _seed(trial: SavedTrial) -> int:
    return trial.record.seed


def _step(trial: SavedTrial) -> int:
    step = trial.step
    assert step is not None, "weights of a best step are only written after an evaluation with a finite loss"
    return step
