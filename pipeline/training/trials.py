"""The trainings of one arm: trials of a grid of learning rates on the first seed, then what is reported, on every seed.

What is reported is a refit: the best trial's rate, on all text that may be trained on, stopped where the best trial was
best. It sees nothing that chose. With `refit: false` the trials themselves are reported, at their best steps.
docs/decisions/choose-then-refit.md
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch.distributed as dist

from pipeline.distributed.collectives import broadcast
from pipeline.errors import Diverged
from pipeline.saved_models.model_files import CHECKPOINTS, TRIAL_RECORD, TRIALS
from pipeline.saved_models.trial_record import TrialRecord, saved_trials
from pipeline.training.metrics import curve, read_metrics


@dataclass(frozen=True)
class Trial:
    """One training of an arm. The seed decides the data's order, the dropout and, for scratch, the first weights.

    A refit has the step at which the best trial was best, in that trial's steps.
    """

    learning_rate: float
    seed: int
    refit_step: int | None = None

    @property
    def is_refit(self) -> bool:
        return self.refit_step is not None

    @property
    def name(self) -> str:
        return f"{'refit-' if self.is_refit else ''}lr-{self.learning_rate:g}-seed-{self.seed}"


@dataclass(frozen=True)
class ArmTrials:
    """The records of an arm's trainings: the grid on the first seed, by rate, and what is reported, by seed."""

    grid: tuple[TrialRecord, ...]
    best: TrialRecord  # of the grid
    reported: tuple[TrialRecord, ...]  # with the best's learning rate

    @property
    def all(self) -> tuple[TrialRecord, ...]:
        """Every training, once."""
        return (*self.grid, *(record for record in self.reported if record not in self.grid))


TrainTrial = Callable[[Trial, Path], None]  # trains one trial in its folder


def run_trials(
    arm: Path, rates: Sequence[float], seeds: Sequence[int], train_trial: TrainTrial, *, refit: bool = True
) -> ArmTrials:
    """Run the trials of an arm below its folder, then its refits if there are to be any. Collective.

    Finished trials are not repeated. A rate that diverges has lost. Raises Diverged if every rate did, and DataError if
    the record of a finished trial is damaged.
    """
    # A grid on every seed would cost many times as much, and the noise between seeds is small beside a bad rate's loss.
    grid = [_finish(arm, Trial(rate, seeds[0]), train_trial) for rate in rates]
    best = min(grid, key=_selection_loss)
    if math.isinf(best.selection_loss):
        raise Diverged(
            f"Training diverged at every learning rate: {', '.join(f'{rate:g}' for rate in rates)}.",
            remedy="Add lower ones to learning_rates.",
        )
    step = best.best_step if refit else None
    trials = [Trial(best.learning_rate, seed, step) for seed in seeds]
    return ArmTrials(tuple(grid), best, tuple(_finish(arm, trial, train_trial) for trial in trials))


def _selection_loss(record: TrialRecord) -> float:
    return record.selection_loss


def folder_of(arm: Path, trial: Trial) -> Path:
    """Where a trial leaves its files."""
    return arm / TRIALS / trial.name


def discard(arm: Path, trials: ArmTrials) -> None:
    """Delete the weights of what is not reported, and the checkpoints of all."""
    for trial in saved_trials(arm):
        shutil.rmtree(trial.folder / CHECKPOINTS, ignore_errors=True)
        if trial.record not in trials.reported:
            for weights in (trial.best, trial.last):
                weights.unlink(missing_ok=True)


def _finish(arm: Path, trial: Trial, train_trial: TrainTrial) -> TrialRecord:
    folder = folder_of(arm, trial)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / TRIAL_RECORD
    # Rank 0 looks for all: file systems of several hosts need not agree on what is there.
    finished = broadcast(TrialRecord.read(path) if dist.get_rank() == 0 and path.exists() else None)
    if finished is not None:
        return finished
    diverged = False
    try:
        train_trial(trial, folder)
    except Diverged:
        diverged = True
    record = broadcast(_record(arm, trial, diverged) if dist.get_rank() == 0 else None)
    assert record is not None, "rank 0 has sent it"
    if dist.get_rank() == 0:
        record.write(folder)
    return record


def _record(arm: Path, trial: Trial, diverged: bool) -> TrialRecord:
    """The record of a trial that has ended, from its metrics: those span all its interruptions."""
    lines = read_metrics(arm, trial.name)
    points = curve(lines)
    losses = [(p.selection_nats_per_token, p.step) for p in points if p.selection_nats_per_token is not None]
    # The first of equal losses, as the loop decides which weights are the best.
    loss, step = min(losses, key=lambda pair: pair[0], default=(None, None))
    return TrialRecord(
        learning_rate=trial.learning_rate,
        seed=trial.seed,
        steps=max((line["step"] for line in lines), default=0),
        tokens=max((line["tokens"] for line in lines), default=0),
        tokens_per_second=median([line["tokens_per_second"] for line in lines if "seconds" in line] or [0.0]),
        best_step=step,
        best_selection_nats_per_token=loss,
        diverged=diverged,
        curve=points,
        refit=trial.is_refit,
    )
