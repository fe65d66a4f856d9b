"""Climbing the ladder: train every rung with every seed, several at a time, and summarize each rung over its seeds."""

from __future__ import annotations

import math
import multiprocessing
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from scipy.stats import t as student

from pipeline.execution.worker_pool import worker_pool
from pipeline.experiments.ladder.rung_trials import RungTrial, RungTrialResult, read_result, train_and_score
from pipeline.experiments.ladder.rungs import Rung
from pipeline.report.report_json import Report
from pipeline.runtime.progress import Progress

TOLERANCE_NATS = 0.02  # of the lecture's numbers, which are read off random windows of the text
SCALED_UP = "scaled-up"
SCALED_UP_PUBLISHED = 1.48  # at its best step; public logs of the lecture's last script say 1.478 to 1.488


@dataclass(frozen=True)
class RungResult:
    """The loss that one rung reached, in nats per character of the validation text; without losses it was not run."""

    rung: str
    published: float
    losses: tuple[float, ...] = ()  # one per seed
    interval: tuple[float, float] | None = None  # 95 %, of the mean; None for a single seed
    parameters: int | None = None
    sample: str = ""  # of the first seed
    commits: tuple[str, ...] = ()
    note: str = ""

    @property
    def mean(self) -> float | None:
        """Over the seeds; None if it was not run."""
        return statistics.fmean(self.losses) if self.losses else None

    @property
    def close(self) -> bool | None:
        """Whether it is as near to the lecture's number as was asked for; None if it was not run."""
        return None if self.mean is None else abs(self.mean - self.published) <= TOLERANCE_NATS


def climb(trials: dict[Rung, list[RungTrial]], workers: int, progress: Progress) -> list[RungResult]:
    """Train every trial that is not finished, in `workers` processes, and return the result of each rung.

    Raises what the first failed trial raised; finished ones are kept.
    """
    everything = [trial for several in trials.values() for trial in several]
    missing = [trial for trial in everything if read_result(trial) is None]
    workers = max(1, min(workers, len(missing)))
    missing.reverse()  # the longest first, so that no core waits for the last one
    with (
        progress.task("training the rungs", sum(trial.rung.steps for trial in everything), "steps") as task,
        worker_pool(workers) as pool,
        _workers_terminated_on_error(),
    ):
        task.start_at(sum(trial.rung.steps for trial in everything if trial not in missing))
        for trial, result in zip(missing, pool.in_order(train_and_score, missing), strict=True):
            task.advance(trial.rung.steps, f"{trial.rung.name}, seed {trial.seed}: {result.nats_per_char:.3f}")
    # Read back, finished before or just now: both are the same numbers then.
    return [_result(rung, [_finished(trial) for trial in several]) for rung, several in trials.items()]


def seeds_interval(losses: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the mean over seeds, by Student's t, in the unit of the losses; None for one seed."""
    if len(losses) < 2:
        return None
    mean, error = statistics.fmean(losses), statistics.stdev(losses) / math.sqrt(len(losses))
    reach = float(student.ppf(0.975, len(losses) - 1)) * error
    return mean - reach, mean + reach


def steps_down(results: Sequence[RungResult]) -> int:
    """How many of the rungs that were run have a lower loss than the one before."""
    means = [result.mean for result in results if result.mean is not None]
    return sum(higher > lower for higher, lower in pairwise(means))


def scaled_up(report: Report) -> RungResult:
    """The last rung, from the report of an ordinary run; its interval covers the text, and the seeds if several."""
    scratch = report.arms.scratch
    refit = scratch.refit
    best, steps = (refit.chosen_step, refit.chosen_of) if refit else (scratch.best_step, scratch.steps)
    loss = scratch.val_nats_per_char
    return RungResult(
        SCALED_UP,
        SCALED_UP_PUBLISHED,
        losses=loss.per_seed,
        interval=loss.ci95,
        parameters=scratch.params,
        sample=report.samples.scratch or "",
        commits=(report.provenance.git_commit,),
        note=f"best step {best:,} of {steps:,}",
    )


def read_report(folder: Path) -> Report:
    """The report of a finished run, from its artifact's folder."""
    return Report.model_validate_json((folder / "report.json").read_bytes())


def _result(rung: Rung, results: Sequence[RungTrialResult]) -> RungResult:
    scored = {result.scored_characters for result in results}
    assert len(scored) == 1, f"seeds of {rung.name} were scored on different texts: {sorted(scored)} characters"
    losses = tuple(result.nats_per_char for result in results)
    return RungResult(
        rung.name,
        rung.published_nats_per_char,
        losses=losses,
        interval=seeds_interval(losses),
        parameters=results[0].parameters,
        sample=results[0].sample,
        commits=tuple(sorted({result.commit for result in results})),
    )


def _finished(trial: RungTrial) -> RungTrialResult:
    result = read_result(trial)
    assert result is not None, f"{trial.file} was there a moment ago"
    return result


@contextmanager
def _workers_terminated_on_error() -> Iterator[None]:
    """Terminate the workers when the block is left by an error or a stop.

    The pool would wait for the trials under way, up to a minute; they start over the next time.
    """
    try:
        yield
    except BaseException:
        for worker in multiprocessing.active_children():
            worker.terminate()
        raise
