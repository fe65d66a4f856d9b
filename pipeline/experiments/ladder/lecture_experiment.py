"""`folio lecture`: climbs the lecture's ladder on the target of configs/lecture.yaml and leaves a page about it.

STORE/lecture/<rung>-<fingerprint>/seed-<seed>.json     finished trials: stopped and started again, it goes on
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
from pipeline.experiments.ladder.rung_trials import RungTrial, read_outcome, trials_of
from pipeline.experiments.ladder.rungs import Rung, read_rungs
from pipeline.graph import runner
from pipeline.graph.lock import exclusive
from pipeline.graph.store import Store
from pipeline.report.figures.drawing import write_png
from pipeline.runtime.files import environment_faults, write_text
from pipeline.runtime.progress import Progress

LONGEST_MINUTES = 10


@dataclass(frozen=True)
class Climb:
    """What the command found: the rungs, what is equal, and seconds of training if all of it was done just now."""

    results: list[RungResult]
    differences: dict[str, float]
    seconds: float | None
    command: str


def run(
    configs: Path,
    store: Store,
    names: Sequence[str],
    *,
    scales_up: bool | None,
    command: str,
    workers: int | None = None,
) -> Climb:
    """Climb these rungs, or all, with a process per core.

    `scales_up` None runs the last rung along with all others where a GPU is at hand, and shows it once it is finished.
    """
    rungs, config = read_rungs(configs / "lecture", names), load_config(configs / "lecture.yaml")
    folder, progress = store.root / "lecture", Progress("lecture")
    target = runner.run_nodes(config, store, runner.Selection("target", "target"))["target"]
    with environment_faults(folder), exclusive(folder):
        trials = {rung: trials_of(rung, target.folder, target.manifest.fingerprint, folder) for rung in rungs}
        fresh = not any(_finished(trials))
        started = time.monotonic()
        results = climb(trials, workers or len(os.sched_getaffinity(0)), progress)
        seconds = time.monotonic() - started if fresh else None
    if scales_up is None:
        scales_up = (torch.cuda.is_available() and not names) or not runner.unfinished(config, store)
    last = _last_rung(config, store) if scales_up else RungResult(SCALED_UP, SCALED_UP_PUBLISHED, note=_why_not())
    return Climb([*results, last], largest_differences(), seconds, command)


def write(found: Climb, out: Path) -> Path:
    """Write the page, its records and its picture to a folder; returns the page."""
    page = out / "lecture.md"
    with environment_faults(out):
        out.mkdir(parents=True, exist_ok=True)
        write_png(out / "lecture.png", lambda inches: ladder(found.results, inches))
        write_text(out / "lecture.json", json.dumps(list(figures(found)), indent=1) + "\n")
        write_text(page, as_page(found.results, found.differences, found.seconds, found.command))
    return page


def figures(found: Climb) -> Iterator[dict[str, Any]]:
    """What the page claims, as records; a rung that was not run has no value."""
    for result in found.results:
        yield measurements.record(_rung_figure(result), found.command)
    run = [result for result in found.results if result.mean is not None]
    order = {"value": steps_down(run), "unit": "steps down", "target": len(run) - 1}
    yield measurements.record({"name": "rungs that lie below the one before", **order}, found.command)
    yield measurements.record(_duration_figure(found.seconds), found.command)
    for name, difference in found.differences.items():
        figure = {"name": f"{name}: largest difference", "value": difference, "unit": "", "target": ROUNDING}
        yield measurements.record(figure, found.command)


def _duration_figure(seconds: float | None) -> dict[str, Any]:
    """The load beside it: the rungs keep every core busy, so what is above their number was other work."""
    figure: dict[str, Any] = {"name": "training all rungs but the last", "value": None, "unit": "minutes"}
    figure |= {"target": LONGEST_MINUTES}
    if seconds is None:
        return figure | {"note": "some trials were finished before"}
    return figure | {"value": round(seconds / 60, 2), "load_average": round(os.getloadavg()[1], 1)}


def _rung_figure(result: RungResult) -> dict[str, Any]:
    """`target` is the lecture's number, and met means near it, on either side."""
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
    return [trial for several in trials.values() for trial in several if read_outcome(trial) is not None]
