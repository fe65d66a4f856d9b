"""Which numbers each figure of the report shows, read from the report and from what training logged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pipeline.evaluation.arms import TrainedArm
from pipeline.evaluation.bits_per_byte import bits_per_byte
from pipeline.graph.stage_counts import ShardsCounts
from pipeline.report.figures import drawing
from pipeline.report.figures.forest import comparison
from pipeline.report.figures.loss_curves import ScoredSeed, TrialCurve, learning_curves, pretraining
from pipeline.report.figures.scaling_curves import gain_curve, size_curve
from pipeline.report.finished_run import FinishedRun
from pipeline.report.report_json import Report
from pipeline.report.wording import headline
from pipeline.saved_models.model_files import METRICS

Points = list[tuple[float, float]]  # (tokens, nats per token)


class Drawing(NamedTuple):
    """How to draw a figure for a width in inches, and what it shows, for those who cannot see it."""

    draw: drawing.Draw
    description: str


def drawings(report: Report, run: FinishedRun) -> dict[str, Drawing]:
    """The report's figures by name; a section that is null or empty has none."""
    scratch = report.arms.scratch.val_bits_per_byte
    figures = {
        "comparison": Drawing(partial(comparison, report), str(headline(report))),
        "curves": Drawing(
            _learning_curves(report, run), "Selection loss of the trials over steps, and where the refits end."
        ),
    }
    if report.curve:
        description = "Validation loss over pretraining tokens, before and after finetuning."
        figures["gain_curve"] = Drawing(partial(gain_curve, report.curve, scratch), description)
    if report.sizes:
        description = "Validation loss over model size, from scratch, pretrained only and finetuned."
        figures["size_curve"] = Drawing(partial(size_curve, report.sizes), description)
    if report.pretrain:
        train, validation = _pretraining_points(run.artifacts["pretrain"].folder / METRICS)
        held_out = "and on held-out documents" if validation else "alone: no part of the corpus was held out"
        description = f"Pretraining loss over tokens seen, on training batches {held_out}."
        figures["pretraining"] = Drawing(partial(pretraining, train, validation, report.pretrain), description)
    return figures


def _learning_curves(report: Report, run: FinishedRun) -> drawing.Draw:
    # Training logs nats per token of the selection text; its bytes turn them into the unit of the other figures.
    selection = run.artifacts["shards"].counts_as(ShardsCounts).target_selection
    curves = {arm.name: _curves(arm, bits_per_byte(selection.tokens, selection.bytes)) for arm in run.arms}
    losses = {name: arm.val_bits_per_byte.per_seed for name, arm in report.arms.by_name().items()}
    scored = {
        arm.name: [
            ScoredSeed(seed, step, loss, arm.refitted)
            for seed, step, loss in zip(arm.seeds, arm.best_step_per_seed, losses[arm.name], strict=True)
        ]
        for arm in run.arms
    }
    return partial(learning_curves, curves, scored, losses.get("zero_shot", ()))


def _curves(arm: TrainedArm, bits: float) -> Sequence[TrialCurve]:
    """A curve for each rate of the grid, or where trials are reported for each seed; `bits`: of one nat per token."""
    records = arm.grid_records if arm.refitted else [trial.record for trial in arm.trials]
    curves = []
    for record in records:
        losses = {
            point.step: point.selection_nats_per_token * bits
            for point in record.curve
            if point.selection_nats_per_token is not None
        }
        steps = tuple(losses)  # without evaluations whose loss was not finite
        if record.best_step is None:
            continue
        name = f"rate {record.learning_rate:g}" if arm.refitted else f"seed {record.seed}"
        chosen = record.learning_rate == arm.learning_rate
        curves.append(TrialCurve(name, steps, tuple(losses.values()), steps.index(record.best_step), chosen))
    return curves


def _pretraining_points(metrics: Path) -> tuple[Points, Points]:
    """The losses of the training batches and of the evaluations."""
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    train, validation = (
        [(line["tokens"], line[name]) for line in lines if line.get(name) is not None]
        for name in ("train_nats_per_token", "evaluation_nats_per_token")
    )
    return train, validation
