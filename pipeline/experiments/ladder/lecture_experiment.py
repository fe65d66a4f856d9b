"""`folio lecture`: trains the lecture's ladder on the target of configs/lecture.yaml and writes a page about it.

STORE/lecture/<rung>-<fingerprint>/seed-<seed>.json     finished trials, which are not trained again
OUT/lecture.md, lecture.json, lecture.png               the page, its figures as records, its picture
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.config.loading import load_config
from pipeline.config.schema import Config
from pipeline.experiments import measurements
from pipeline.experiments.ladder.climb import (
    SCALED_UP,
    SCALED_UP_PUBLISHED,
    TOLERANCE_NATS,
    RungResult,
    climb,
    read_report,
    scaled_up,
    steps_down,
)
from pipeline.experiments.ladder.equalities import ROUNDING, largest_differences
from pipeline.experiments.ladder.ladder_plot import ladder
from pipeline.experiments.ladder.page import as_page
from pipeline.experiments.ladder.rung_trials import RungTrial, read_result, trials_of
from pipeline.experiments.ladder.rungs import Rung, read_rungs
from pipeline.graph import runner
from pipeline.graph.lock import exclusive
from pipeline.graph.store import Store
from pipeline.report.figures.drawing import write_png
from pipeline.runtime.files import environment_faults, write_text
from pipeline.runtime.processes import usable_cores
from pipeline.runtime.progress import Progress

LONGEST_MINUTES = 10  # that all rungs but the last may take to train


@dataclass(frozen=True)
class LadderResult:
    """All that the page shows: the rungs, from the lowest up, and what the lecture shows to be equal."""

    rungs: list[RungResult]
    differences: dict[str, float]  # of `equalities.py`
    seconds: float | None  # of training; None if some trials were finished before
    command: str


def climb_ladder(
    configs: Path,
    store: Store,
    names: Sequence[str],
    *,
    scales_up: bool | None,
    command: str,
    workers: int | None = None,
) -> LadderResult:
    """Train the rungs called `names`, or all, with a process per core.

    `scales_up` says whether to train the last rung, the real model; None trains it along with all others where there is
    a GPU, and otherwise shows it if it is finished already.
    """
    rungs, config = read_rungs(configs / "lecture", names), load_config(configs / "lecture.yaml")
    folder, progress = store.root / "lecture", Progress("lecture")
    target = runner.run_nodes(config, store, runner.Selection("target", "target"))["target"]
    with environment_faults(folder), exclusive(folder):
        trials = {rung: trials_of(rung, target.folder, target.manifest.fingerprint, folder) for rung in rungs}
        # A duration is comparable only if it covers everything.
        fresh = not _finished(trials)
        started = time.monotonic()
        results = climb(trials, workers or usable_cores(), progress)
        seconds = time.monotonic() - started if fresh else None
    if scales_up is None:
        scales_up = (torch.cuda.is_available() and not names) or not runner.unfinished(config, store)
    last = _last_rung(config, store) if scales_up else RungResult(SCALED_UP, SCALED_UP_PUBLISHED, note=_why_not())
    return LadderResult([*results, last], largest_differences(), seconds, command)


def write(ladder_result: LadderResult, out: Path) -> Path:
    """Write the page, its records and its picture to a folder, created if need be. Returns the page's path."""
    page = out / "lecture.md"
    with environment_faults(out):
        out.mkdir(parents=True, exist_ok=True)
        write_png(out / "lecture.png", lambda inches: ladder(ladder_result.rungs, inches))
        write_text(out / "lecture.json", json.dumps(list(figures(ladder_result)), indent=1) + "\n")
        text = as_page(ladder_result.rungs, ladder_result.differences, ladder_result.seconds, ladder_result.command)
        write_text(page, text)
    return page


def figures(ladder_result: LadderResult) -> Iterator[dict[str, Any]]:
    """The claims of the page as records (`measurements.record`); a rung that was not run has no value."""
    command = ladder_result.command
    for result in ladder_result.rungs:
        yield measurements.record(_rung_figure(result), command)
    run = [result for result in ladder_result.rungs if result.mean is not None]
    order = {"value": steps_down(run), "unit": "steps down", "target": len(run) - 1}
    yield measurements.record({"name": "rungs that lie below the one before", **order}, command)
    yield measurements.record(_duration_figure(ladder_result.seconds), command)
    for name, difference in ladder_result.differences.items():
        figure = {"name": f"{name}: largest difference", "value": difference, "unit": "", "target": ROUNDING}
        yield measurements.record(figure, command)


def _duration_figure(seconds: float | None) -> dict[str, Any]:
    """How long training took, with the machine's load meanwhile."""
    # The rungs keep every core busy, so a load above the number of cores tells that other work slowed them.
    figure: dict[str, Any] = {"name": "training all rungs but the last", "value": None, "unit": "minutes"}
    figure |= {"target": LONGEST_MINUTES}
    if seconds is None:
        return figure | {"note": "some trials were finished before"}
    return figure | {"value": round(seconds / 60, 2), "load_average": round(os.getloadavg()[1], 1)}


def _rung_figure(result: RungResult) -> dict[str, Any]:
    """A rung's loss beside the lecture's. `target` is the lecture's number, and met means near it, on either side."""
    figure: dict[str, Any] = {"name": f"{result.rung}: validation loss", "value": result.mean, "unit": "nats/char"}
    figure |= {"target": result.published, "tolerance": TOLERANCE_NATS, "met": result.close}
    if result.mean is None:
        return figure | {"note": result.note}
    figure |= {"value": round(result.mean, 4), "per_seed": [round(loss, 4) for loss in result.losses]}
    figure |= {"ci95": result.interval and [round(end, 4) for end in result.interval]}
    return figure | {"parameters": result.parameters, "commit": ", ".join(result.commits)}


def _last_rung(config: Config, store: Store) -> RungResult:
    return scaled_up(read_report(runner.run_nodes(config, store)["report"].folder))


def _why_not() -> str:
    return "not run" if torch.cuda.is_available() else "not run: needs a GPU"


def _finished(trials: Mapping[Rung, Sequence[RungTrial]]) -> list[RungTrial]:
    return [trial for several in trials.values() for trial in several if read_result(trial) is not None]
