"""The lecture's ladder: every rung with every seed on the cores at hand, and what came of it beside the lecture's."""

from __future__ import annotations

import json
import math
import multiprocessing
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from scipy.stats import t as student

from pipeline.execution.worker_pool import worker_pool
from pipeline.experiments.ladder.rung_trials import RungTrial, RungTrialResult, read_outcome, run_trial
from pipeline.experiments.ladder.rungs import Rung
from pipeline.runtime.progress import Progress

TOLERANCE_NATS = 0.02
SCALED_UP = "scaled-up"
SCALED_UP_PUBLISHED = 1.48  # at its best step; public logs of the lecture's last script say 1.478 to 1.488


@dataclass(frozen=True)
class RungResult:
    """What one rung reached, in nats per character of the validation text; without losses it was not run."""

    rung: str
    published: float
    losses: tuple[float, ...] = ()  # per seed
    interval: tuple[float, float] | None = None  # 95 %; None where there is too little to tell
    parameters: int | None = None
    sample: str = ""
    commits: tuple[str, ...] = ()
    note: str = ""

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.losses) if self.losses else None

    @property
    def close(self) -> bool | None:
        """Whether it is as near the lecture's number as was asked for."""
        return None if self.mean is None else abs(self.mean - self.published) <= TOLERANCE_NATS


def climb(trials: dict[Rung, list[RungTrial]], workers: int, progress: Progress) -> list[RungResult]:
    """The result of each rung, after training what is not finished yet."""
    everything = [trial for several in trials.values() for trial in several]
    missing = [trial for trial in everything if read_outcome(trial) is None]
    workers = max(1, min(workers, len(missing)))
    missing.reverse()  # the longest first, so that no core waits for the last one
    with (
        progress.task("training the rungs", sum(trial.rung.steps for trial in everything), "steps") as task,
        worker_pool(workers) as pool,
        _ended_at_once(),
    ):
        task.start_at(sum(trial.rung.steps for trial in everything if trial not in missing))
        for trial, outcome in zip(missing, pool.in_order(run_trial, missing), strict=True):
            task.advance(trial.rung.steps, f"{trial.rung.name}, seed {trial.seed}: {outcome.nats_per_char:.3f}")
    return [_result(rung, [_finished(trial) for trial in several]) for rung, several in trials.items()]


def seeds_interval(losses: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the mean over seeds, by Student's t; None for one seed."""
    if len(losses) < 2:
        return None
    mean, error = statistics.fmean(losses), statistics.stdev(losses) / math.sqrt(len(losses))
    reach = float(student.ppf(0.975, len(losses) - 1)) * error
    return mean - reach, mean + reach


def steps_down(results: Sequence[RungResult]) -> int:
    """How many rungs that were run lie below the one before."""
    means = [result.mean for result in results if result.mean is not None]
    return sum(higher > lower for higher, lower in pairwise(means))


def scaled_up(report: dict[str, Any]) -> RungResult:
    """The last rung, from the report of an ordinary run; its interval is over the text, and over seeds if several."""
    scratch = report["arms"]["scratch"]
    loss = scratch["val_nats_per_char"]
    return RungResult(
        SCALED_UP,
        SCALED_UP_PUBLISHED,
        losses=tuple(loss["per_seed"]),
        interval=(loss["ci95"][0], loss["ci95"][1]),
        parameters=scratch["params"],
        sample=report["samples"]["scratch"],
        commits=(report["provenance"]["git_commit"],),
        note=f"best step {scratch['best_step']:,} of {scratch['steps']:,}",
    )


def read_report(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return report


def _result(rung: Rung, outcomes: Sequence[RungTrialResult]) -> RungResult:
    losses = tuple(outcome.nats_per_char for outcome in outcomes)
    return RungResult(
        rung.name,
        rung.published_nats_per_char,
        losses=losses,
        interval=seeds_interval(losses),
        parameters=outcomes[0].parameters,
        sample=outcomes[0].sample,
        commits=tuple(sorted({outcome.commit for outcome in outcomes})),
    )


def _finished(trial: RungTrial) -> RungTrialResult:
    outcome = read_outcome(trial)
    assert outcome is not None, f"{trial.file} was there a moment ago"
    return outcome


@contextmanager
def _ended_at_once() -> Iterator[None]:
    """Nobody who stops the program waits a minute for trials that are under way: they start over the next time."""
    try:
        yield
    except BaseException:
        for worker in multiprocessing.active_children():
            worker.terminate()
        raise
