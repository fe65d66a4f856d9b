"""`folio lr-range`: one short training whose learning rate rises, to see which rates are worth a grid."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from pipeline.config.schema import Config
from pipeline.distributed.job import Job
from pipeline.distributed.launch import launch_job
from pipeline.errors import Diverged
from pipeline.experiments.lr_range.range_test import ENTRY_POINT, Reading
from pipeline.graph.runner import finished, refuse_unfinished, work_of
from pipeline.graph.stages import nodes_of
from pipeline.graph.store import Store
from pipeline.report.figures.drawing import COLOURS, write_png
from pipeline.runtime.files import write_text

FEWEST_READINGS = 10


@dataclass(frozen=True)
class SuggestedRates:
    """The readings, and the rates that they speak for."""

    folder: Path
    readings: tuple[Reading, ...]
    steepest: float  # where the loss falls fastest over the logarithm of the rate
    lowest: float  # where it is lowest
    grid: tuple[float, float, float]


def find_rates(config: Config, stage: str, store: Store, *, low: float, high: float, steps: int) -> SuggestedRates:
    """Train with rates from `low` to `high` and read off a grid; leaves lr-range.json and lr-range.png in the store.

    Raises DataError if an input of the stage is not finished, Diverged if not even the lowest rates can be borne.
    """
    artifacts = finished(config, store)
    node = next(node for node in nodes_of(config) if node.name == stage)
    refuse_unfinished(node, artifacts)
    folder = store.root / f"lr-range-{config.name}-{stage}"
    folder.mkdir(parents=True, exist_ok=True)
    work = work_of(node, artifacts, folder)
    for artifact in work.inputs.values():
        artifact.checked()
    job = Job.of(work).with_entry_point(ENTRY_POINT)
    wanted = {"low": low, "high": high, "steps": steps}
    counts = launch_job(replace(job, config_slice={**job.config_slice, "range": wanted}))
    readings = tuple(Reading(**reading) for reading in counts["readings"])
    if len(readings) < FEWEST_READINGS:
        raise Diverged(
            f"The loss blew up after {len(readings)} of {steps} steps, near a rate of {low:g}.",
            remedy="Start lower: --low.",
        )
    found = SuggestedRates(folder, readings, *suggested(readings))
    _write(found)
    return found


def suggested(readings: Sequence[Reading]) -> tuple[float, float, tuple[float, float, float]]:
    """Where the smoothed loss falls fastest and where it is lowest; a grid of half, once and twice a careful rate.

    A whole training bears less than so few steps do. There are two rules of thumb, a tenth of the lowest and where the
    loss falls fastest, and either can be far too high: the smaller one is taken.
    """
    lowest = min(range(len(readings)), key=lambda at: readings[at].smoothed)
    span = max(len(readings) // 20, 1)
    falls = [(readings[at].smoothed - readings[at - span].smoothed, at) for at in range(span, max(lowest, span) + 1)]
    steepest = min(falls)[1]
    fast, low = readings[steepest].learning_rate, readings[lowest].learning_rate
    half, once, twice = (float(f"{min(fast, low / 10) * factor:.1g}") for factor in (0.5, 1, 2))
    return fast, low, (half, once, twice)


def as_text(found: SuggestedRates, stage: str) -> str:
    """What an operator reads: ten readings, the two rates, and the line for the config."""
    every = max(len(found.readings) // 10, 1)
    rows = [f"{one.learning_rate:>10.2e}  {one.smoothed:8.4f}" for one in found.readings[every - 1 :: every]]
    grid = ", ".join(f"{rate:g}" for rate in found.grid)
    key = f"learning_rate: {found.grid[1]:g}" if stage == "pretrain" else f"learning_rates: [{grid}]"
    return "\n".join(
        [
            "      rate  nats/token (smoothed)",
            *rows,
            f"falls fastest at {found.steepest:.2g}, is lowest at {found.lowest:.2g}",
            f"to try:  {stage}: {{{key}}}",
        ]
    )


def as_json(found: SuggestedRates) -> dict[str, Any]:
    return {
        "steepest": found.steepest,
        "lowest": found.lowest,
        "grid": list(found.grid),
        "readings": [vars(reading) for reading in found.readings],
    }


def _write(found: SuggestedRates) -> None:
    write_text(found.folder / "lr-range.json", json.dumps(as_json(found), indent=1) + "\n")
    write_png(found.folder / "lr-range.png", lambda inches: picture(found, inches))


def picture(found: SuggestedRates, inches: float) -> Figure:
    """The loss over the rate, each step and smoothed, with the grid's rates as lines."""
    figure = Figure(figsize=(inches, inches * 0.5), layout="constrained")
    axes = figure.subplots()
    rates = [reading.learning_rate for reading in found.readings]
    axes.plot(rates, [one.nats_per_token for one in found.readings], color=COLOURS["line"], label="each step")
    axes.plot(rates, [one.smoothed for one in found.readings], color=COLOURS["finetune"], label="smoothed")
    for rate in found.grid:
        axes.axvline(rate, color=COLOURS["muted"], linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set(xlabel="learning rate (dotted: to try)", ylabel="loss of the batch, nats per token")
    axes.legend()
    return figure
