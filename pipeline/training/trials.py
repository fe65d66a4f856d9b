"""The trials of one arm: a grid of learning rates on the first seed, then the best rate on every seed."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch.distributed as dist

from pipeline.distributed.collectives import broadcast
from pipeline.errors import Diverged
from pipeline.runtime.files import write_text
from pipeline.saved_models.model_files import BEST, LAST
from pipeline.training.metrics import curve, read_metrics

RESULT = "trial.json"
SELECTION = "selection_nats_per_token"
TrialResult = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """One training of an arm. The seed decides the data's order, the dropout and, for scratch, the first weights."""

    learning_rate: float
    seed: int

    @property
    def name(self) -> str:
        return f"lr-{self.learning_rate:g}-seed-{self.seed}"


def run_trials(
    arm: Path, rates: Sequence[float], seeds: Sequence[int], carry_out: Callable[[Trial, Path], None]
) -> tuple[list[TrialResult], list[TrialResult]]:
    """The grid's results on the first seed, by rate, and the best rate's results, by seed. Collective.

    `carry_out` trains one trial in its folder; finished ones are not repeated. A rate that diverges has lost.
    Raises Diverged if every rate did.
    """
    grid = [_result(arm, Trial(rate, seeds[0]), carry_out) for rate in rates]
    best = min(grid, key=selection_loss)
    if math.isinf(selection_loss(best)):
        raise Diverged(
            f"Training diverged at every learning rate: {', '.join(f'{rate:g}' for rate in rates)}.",
            remedy="Add lower ones to learning_rates.",
        )
    others = [_result(arm, Trial(best["learning_rate"], seed), carry_out) for seed in seeds[1:]]
    return grid, [best, *others]


def selection_loss(result: TrialResult) -> float:
    """What trials are compared by: their lowest loss on the selection text; infinite if they diverged."""
    loss = result["best_selection_nats_per_token"]
    return math.inf if loss is None or result["diverged"] else float(loss)


def folder_of(arm: Path, trial: Trial) -> Path:
    return arm / "trials" / trial.name


def discard(arm: Path, chosen_rate: float) -> None:
    """Delete the weights of the rates that lost, and the checkpoints of all trials."""
    for path in arm.glob(f"trials/*/{RESULT}"):
        shutil.rmtree(path.parent / "checkpoints", ignore_errors=True)
        if json.loads(path.read_bytes())["learning_rate"] != chosen_rate:
            for name in (BEST, LAST):
                (path.parent / name).unlink(missing_ok=True)


def _result(arm: Path, trial: Trial, carry_out: Callable[[Trial, Path], None]) -> TrialResult:
    folder = folder_of(arm, trial)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / RESULT
    # Rank 0 looks for all: file systems of several hosts need not agree on what is there.
    finished = broadcast(json.loads(path.read_bytes()) if path.exists() else None)
    if finished is not None:
        return cast(TrialResult, finished)
    diverged = False
    try:
        carry_out(trial, folder)
    except Diverged:
        diverged = True
    result = broadcast(_summary(arm, trial, diverged) if dist.get_rank() == 0 else {})
    if dist.get_rank() == 0:
        write_text(path, json.dumps(result, indent=1) + "\n")
    return result


def _summary(arm: Path, trial: Trial, diverged: bool) -> TrialResult:
    """The content of trial.json, from the trial's metrics: those go on over interruptions."""
    lines = read_metrics(arm, trial.name)
    points = curve(lines, SELECTION)
    best = min((point for point in points if point[SELECTION] is not None), key=itemgetter(SELECTION), default=None)
    return {
        "learning_rate": trial.learning_rate,
        "seed": trial.seed,
        "steps": max((line["step"] for line in lines), default=0),
        "tokens": max((line["tokens"] for line in lines), default=0),
        "tokens_per_second": median([line["tokens_per_second"] for line in lines if "seconds" in line] or [0.0]),
        "best_step": best and best["step"],
        f"best_{SELECTION}": best and best[SELECTION],
        "diverged": diverged,
        "curve": points,
    }
