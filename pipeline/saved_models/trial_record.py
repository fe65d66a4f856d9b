"""trial.json: how one training of an arm went, as one typed record with one reader and one writer.

The file is a contract with artifacts made earlier: its keys and their order are those of `TrialRecord`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import DataError
from pipeline.graph.stage_counts import TrialSummary
from pipeline.runtime.files import write_text
from pipeline.saved_models.model_files import BEST, LAST, TRIAL_RECORD, TRIALS


class CurvePoint(BaseModel):
    """One evaluation: losses in nats per token, None where the loss was not finite.

    The training loss is the mean over the steps since the evaluation before; it is None, too, if all were skipped.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    step: int
    train_nats_per_token: float | None
    selection_nats_per_token: float | None


class TrialRecord(BaseModel):
    """One training of an arm: its learning rate, its seed, where it was best, and its curve over steps."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    learning_rate: float
    seed: int
    steps: int
    tokens: int
    tokens_per_second: float  # median over the steps
    best_step: int | None  # None: no evaluation gave a finite loss
    best_selection_nats_per_token: float | None
    diverged: bool
    curve: tuple[CurvePoint, ...]
    refit: bool = False  # trained on all text that may be, and so with nothing left to evaluate it on

    @classmethod
    def read(cls, path: Path) -> TrialRecord:
        """The record in a trial.json. Raises DataError if it is missing or damaged."""
        try:
            return cls.model_validate(json.loads(path.read_bytes()))
        except ValidationError as error:
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        except (OSError, ValueError) as error:
            reason = str(error)
        # <arm>/trials/<trial>/trial.json: without it the trial cannot be told from one that was never finished.
        raise DataError(f"{path} is damaged ({reason}).", remedy=f"Delete {path.parents[2]} and run its stage again.")

    def write(self, folder: Path) -> None:
        """Leave the record in the trial's folder. The file appears whole: its presence says the trial is finished."""
        # Python's floats, because pydantic's own JSON spells 1e-05 differently from what finished artifacts hold.
        write_text(folder / TRIAL_RECORD, json.dumps(self.model_dump(), indent=1) + "\n")

    @property
    def selection_loss(self) -> float:
        """What trials are compared by: the lowest loss on the selection split; infinite if the trial diverged."""
        loss = self.best_selection_nats_per_token
        return math.inf if loss is None or self.diverged else loss

    def summary(self) -> TrialSummary:
        """What the manifest of the arm's artifact says about the trial."""
        return TrialSummary.model_validate(self.model_dump())


@dataclass(frozen=True)
class SavedTrial:
    """A finished trial on disk: its folder, its record, and where its weights are if they were kept."""

    folder: Path
    record: TrialRecord

    @property
    def best(self) -> Path:
        """Weights of its best step."""
        return self.folder / BEST

    @property
    def last(self) -> Path:
        """Weights of its last step."""
        return self.folder / LAST

    @property
    def weights(self) -> Path:
        """Those that are scored: of a refit the last, of a trial those of its best step."""
        return self.last if self.record.refit else self.best

    @property
    def step(self) -> int | None:
        """The step of those weights; None if no evaluation of a trial gave a finite loss."""
        return self.record.steps if self.record.refit else self.record.best_step

    @property
    def scorable(self) -> bool:
        """Whether its weights are there. What is not reported keeps none; one that diverged may have left none."""
        return self.weights.exists() and self.last.exists()


def saved_trials(arm: Path) -> list[SavedTrial]:
    """The finished trials and refits below an arm's folder, by name. Raises DataError if a record is damaged."""
    records = sorted(arm.glob(f"{TRIALS}/*/{TRIAL_RECORD}"))
    return [SavedTrial(path.parent, TrialRecord.read(path)) for path in records]


def reported_trials(arm: Path) -> list[SavedTrial]:
    """Those whose weights were kept: the refits of an arm, or its trials if it has none. Raises as `saved_trials`."""
    scorable = [trial for trial in saved_trials(arm) if trial.scorable]
    return [trial for trial in scorable if trial.record.refit] or scorable
