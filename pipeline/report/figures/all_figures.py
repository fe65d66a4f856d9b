"""Which numbers each figure of the report shows, read from the report and from what training logged."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.evaluation.arms import TrainedArm, TrialRecord
from pipeline.graph.work import Artifact
from pipeline.report.figures import drawing
from pipeline.report.figures.forest import comparison
from pipeline.report.figures.loss_curves import gain_curve, learning_curves, pretraining, size_curve
from pipeline.report.page.wording import headline


class Drawing(NamedTuple):
    """How to draw a figure for a width in inches, and what it shows, for those who cannot see it."""

    draw: drawing.Draw
    description: str


def drawings(
    report: Mapping[str, Any], arms: Sequence[TrainedArm], inputs: Mapping[str, Artifact]
) -> dict[str, Drawing]:
    """The report's figures by name."""
    bits = _bits_per_byte(inputs["shards"].manifest.counts["target_selection"])
    curves = {arm.name: [_curve(trial, bits) for trial in arm.trials] for arm in arms}
    best = {name: values["val_bits_per_byte"]["per_seed"] for name, values in report["arms"].items()}
    found = {
        "comparison": Drawing(lambda inches: comparison(report, inches), str(headline(report))),
        "curves": Drawing(lambda inches: learning_curves(curves, best, inches), "Selection loss over steps."),
    }
    if report["curve"]:
        what = "Validation loss over pretraining tokens, before and after finetuning."
        found["gain_curve"] = Drawing(lambda inches: gain_curve(report, inches), what)
    if report["sizes"]:
        what = "Validation loss over model size, from scratch, pretrained only and finetuned."
        found["size_curve"] = Drawing(lambda inches: size_curve(report, inches), what)
    if report["pretrain"]:
        train, validation = _pretraining(inputs["pretrain"].folder / "metrics.jsonl")
        found["pretraining"] = Drawing(
            lambda inches: pretraining(train, validation, report["pretrain"], inches),
            "Pretraining loss over tokens seen, on training batches and on held-out documents.",
        )
    return found


def _bits_per_byte(text: Mapping[str, int]) -> float:
    """What one nat per token is in bits per byte of a text."""
    return text["tokens"] / text["bytes"] / math.log(2)


def _curve(trial: TrialRecord, bits: float) -> dict[str, Any]:
    points = [point for point in trial.curve if point["selection_nats_per_token"] is not None]
    steps = [point["step"] for point in points]
    return {
        "seed": trial.seed,
        "steps": steps,
        "bits_per_byte": [point["selection_nats_per_token"] * bits for point in points],
        "best": steps.index(trial.best_step),
    }


def _pretraining(metrics: Path) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """(tokens, nats per token) of the training batches and of the evaluations."""
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    train, validation = (
        [(line["tokens"], line[name]) for line in lines if line.get(name) is not None]
        for name in ("train_nats_per_token", "evaluation_nats_per_token")
    )
    return train, validation
