"""`folio lr-range`: starts a learning rate range test and reads off its losses which rates are worth a grid."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from pipeline.config.schema import Config
from pipeline.distributed.launch import launch_job
from pipeline.errors import Diverged
from pipeline.experiments.lr_range.rising_rate import ENTRY_POINT, Reading
from pipeline.graph.runner import finished, refuse_unfinished, work_of
from pipeline.graph.stages import nodes_of
from pipeline.graph.store import Store
from pipeline.report.figures.drawing import COLOURS, write_png
from pipeline.runtime.files import write_text
from pipeline.training.stage import fitted_job

FEWEST_READINGS = 10  # below, a slope would be that of noise


@dataclass(frozen=True)
class SuggestedRates:
    """The readings of a range test, and the rates that they suggest."""

    folder: Path  # holds lr-range.json and lr-range.png
    readings: tuple[Reading, ...]
    steepest: float  # where the loss falls fastest over the logarithm of the rate
    lowest: float  # where it is lowest
    grid: tuple[float, float, float]


def find_rates(config: Config, stage: str, store: Store, *, low: float, high: float, steps: int) -> SuggestedRates:
    """Train with rates from `low` to `high` and read off a grid; leaves lr-range.json and lr-range.png in the store.

    Raises DataError if an input of the stage is not finished, Diverged if the loss blows up at the lowest rates.
    """
    artifacts = finished(config, store)
    node = next(node for node in nodes_of(config) if node.name == stage)
    refuse_unfinished(node, artifacts)
    # Not an artifact: it has no manifest and no fingerprint, and no stage reads it.
    folder = store.root / f"lr-range-{config.name}-{stage}"
    folder.mkdir(parents=True, exist_ok=True)
    work = work_of(node, artifacts, folder)
    for artifact in work.inputs.values():
        artifact.checked()
    job = fitted_job(work).with_entry_point(ENTRY_POINT)
    rising = {"low": low, "high": high, "steps": steps}
    outcome = launch_job(replace(job, config_slice={**job.config_slice, "range": rising}))
    readings = tuple(Reading(**reading) for reading in outcome["readings"])
    if len(readings) < FEWEST_READINGS:
        raise Diverged(
            f"The loss blew up after {len(readings)} of {steps} steps, near a rate of {low:g}.",
            remedy="Start lower: --low.",
        )
    suggestion = SuggestedRates(folder, readings, *suggested(readings))
    _write(suggestion)
    return suggestion


def suggested(readings: Sequence[Reading]) -> tuple[float, float, tuple[float, float, float]]:
    """Where the smoothed loss falls fastest, where it is lowest, and a grid of half, once and twice a careful rate.

    A whole training tolerates lower rates than so short a one. There are two rules of thumb, a tenth of the rate with
    the lowest loss and the rate where the loss falls fastest, and either can be far too high: the smaller one is taken.
    """
    lowest = min(range(len(readings)), key=lambda at: readings[at].smoothed)
    # A twentieth of the test at a time: from one step to the next the loss is mostly noise.
    span = max(len(readings) // 20, 1)
    falls = [(readings[at].smoothed - readings[at - span].smoothed, at) for at in range(span, max(lowest, span) + 1)]
    steepest = min(falls)[1]
    fast, low = readings[steepest].learning_rate, readings[lowest].learning_rate
    # One digit is all that such a reading is good for.
    half, once, twice = (float(f"{min(fast, low / 10) * factor:.1g}") for factor in (0.5, 1, 2))
    return fast, low, (half, once, twice)


def as_text(suggestion: SuggestedRates, stage: str) -> str:
    """What an operator reads: ten readings, the two rates, and the line for the config."""
    every = max(len(suggestion.readings) // 10, 1)
    shown = suggestion.readings[every - 1 :: every]
    rows = [f"{reading.learning_rate:>10.2e}  {reading.smoothed:8.4f}" for reading in shown]
    grid = ", ".join(f"{rate:g}" for rate in suggestion.grid)
    key = f"learning_rate: {suggestion.grid[1]:g}" if stage == "pretrain" else f"learning_rates: [{grid}]"
    return "\n".join(
        [
            "      rate  nats/token (smoothed)",
            *rows,
            f"falls fastest at {suggestion.steepest:.2g}, is lowest at {suggestion.lowest:.2g}",
            f"to try:  {stage}: {{{key}}}",
        ]
    )


def as_json(suggestion: SuggestedRates) -> dict[str, Any]:
    """The content of lr-range.json."""
    return {
        "steepest": suggestion.steepest,
        "lowest": suggestion.lowest,
        "grid": list(suggestion.grid),
        "readings": [vars(reading) for reading in suggestion.readings],
    }


def _write(suggestion: SuggestedRates) -> None:
    write_text(suggestion.folder / "lr-range.json", json.dumps(as_json(suggestion), indent=1) + "\n")
    write_png(suggestion.folder / "lr-range.png", lambda inches: picture(suggestion, inches))


def picture(suggestion: SuggestedRates, inches: float) -> Figure:
    """The loss over the rate, each step and smoothed, with the grid's rates as lines; `inches` wide."""
    figure = Figure(figsize=(inches, inches * 0.5), layout="constrained")
    axes = figure.subplots()
    readings = suggestion.readings
    rates = [reading.learning_rate for reading in readings]
    axes.plot(rates, [reading.nats_per_token for reading in readings], color=COLOURS["line"], label="each step")
    axes.plot(rates, [reading.smoothed for reading in readings], color=COLOURS["finetune"], label="smoothed")
    for rate in suggestion.grid:
        axes.axvline(rate, color=COLOURS["muted"], linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set(xlabel="learning rate (dotted: to try)", ylabel="loss of the batch, nats per token")
    axes.legend()
    return figure
