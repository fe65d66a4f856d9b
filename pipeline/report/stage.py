"""Stage `report`: how much pretraining helps on the target, how sure that is, and everything needed to doubt it.

    report.json    for programs (format 1)
    report.html    one self-contained page for people
    report.md      the same in short
    gain.png       the comparison as a picture

This is the only stage that opens the validation text, and it scores every token of it with the saved weights. The same
artifacts give the same bytes again: sums use a fixed number of threads, draws a fixed seed, and nothing names the time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpt.counts import num_parameters
from pipeline.config.schema import ReportSection
from pipeline.evaluation.arms import TrainedArm, read_arm
from pipeline.evaluation.bits_per_byte import BitsPerByte
from pipeline.evaluation.intervals import Estimate, Losses, arm_loss, block_windows, gain
from pipeline.evaluation.memorization_gap import pretraining_gap
from pipeline.evaluation.scoring import ArmScores, ArmWeights, fixed_threads, score_files
from pipeline.graph.work import Work
from pipeline.report.figures import drawing
from pipeline.report.figures.all_figures import drawings
from pipeline.report.page import render
from pipeline.report.page.wording import caveats, further_methods, headline, methods, rival_caveats
from pipeline.report.sections.controls import controls
from pipeline.report.sections.gain_curve import Point, curve_section, points
from pipeline.report.sections.leak import leak_files, leak_section
from pipeline.report.sections.receipts import (
    Inputs,
    contamination_section,
    cost_section,
    imported_section,
    provenance_section,
    target_section,
)
from pipeline.report.sections.references import references
from pipeline.report.sections.rivals import Rival, rival_section, rivals_in
from pipeline.report.sections.sizes import size_files, size_sections
from pipeline.runtime.files import write_text
from pipeline.saved_models.continue_text import continued
from pipeline.saved_models.weights import load_model, load_shape
from pipeline.tokens.scoring_windows import ScoringWindows
from pipeline.tokens.tokenizer import Tokenizer, load_tokenizer

FORMAT = 1
SIGNIFICANT_DIGITS = 6  # a forward in float32 promises no more
Units = Mapping[str, float]


def make_report(work: Work) -> dict[str, Any]:
    """Score the arms, compare them, write the report. Raises DataError if an artifact is damaged."""
    for artifact in work.inputs.values():
        if artifact.stage != "corpus":  # read for its counts alone, and the largest by far
            artifact.checked()
    arms = [read_arm(work.inputs[name]) for name in ("scratch", "finetune") if name in work.inputs]
    with fixed_threads(work.launch.threads or work.workers):
        report = _rounded(_report(work, arms))
    _write(work.folder, report, arms, work.inputs)
    work.progress.say(str(headline(report)))
    return _counts(report)


def _report(work: Work, arms: Sequence[TrainedArm]) -> dict[str, Any]:
    """Everything in report.json."""
    inputs, settings = work.inputs, work.slice["report"]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = load_tokenizer(inputs["tokenizer"].folder)
    context = load_shape(arms[0].model_json).context
    shard = inputs["shards"].folder / "target" / "validation.arrow"
    windows = ScoringWindows.of_shard(shard, tokenizer_sha256=tokenizer.sha256, context=context, stride=settings.stride)
    weights, stops = _weights(arms, inputs), points(inputs, arms)
    rivals = rivals_in(settings.rivals, inputs, windows, settings.stride)
    files = {file: shape for arm in weights.values() for file, shape in arm.files.items()} | leak_files(inputs)
    files |= size_files(settings.sizes, inputs)
    files |= {file: arms[-1].model_json for stop in stops for file in (stop.pretrained, stop.finetuned.best)}
    losses = score_files(files, windows, device, work.progress)
    for rival in rivals:
        losses |= score_files(rival.files, rival.windows, device, work.progress)
    scores = {name: ArmScores.of(arm, losses) for name, arm in weights.items()}
    target = target_section(inputs, windows.num_tokens)
    pretrain = _pretrain(inputs, tokenizer, device, settings)
    imported = imported_section(inputs)
    max_steps = {arm.name: inputs[arm.name].manifest.config[arm.name]["max_steps"] for arm in arms}
    found = _arms(arms, weights, scores, _units(target), settings)
    beyond = _beyond(inputs, arms, stops, rivals, losses, scores, target, settings)
    measured = pretrain is not None or "corpus" not in inputs
    doubts = caveats(arms, max_steps, gap_measured=measured, imported=imported is not None)
    return {
        "format": FORMAT,
        "run": inputs["scratch"].manifest.run,
        "target": target,
        "arms": found,
        "gain": _gain(scores, _units(target), settings),
        "references": references(target),
        **beyond,
        "pretrain": pretrain,
        "imported": imported,
        "contamination": contamination_section(inputs),
        "controls": controls(inputs, arms, tokenizer) | {"same_windows": _same_windows(scores)},
        "caveats": rival_caveats(beyond["rivals"], found["scratch"]["val_bits_per_byte"]["mean"]) + doubts,
        "cost": cost_section(inputs),
        "provenance": provenance_section(inputs, work.slice),
        "samples": _samples(arms, tokenizer, device, settings),
        "methods": methods(len(windows.inputs), block_windows(len(windows.inputs)), settings.resamples)
        | further_methods(beyond),
    }


def _beyond(
    inputs: Inputs,
    arms: Sequence[TrainedArm],
    stops: Sequence[Point],
    rivals: Sequence[Rival],
    losses: Mapping[Path, Losses],
    scores: Mapping[str, ArmScores],
    target: Mapping[str, Any],
    settings: ReportSection,
) -> dict[str, Any]:
    """What doubts the gain and what explains it: rivals, its course over pretraining, and the leak ablation."""
    choices = {"resamples": settings.resamples, "seed": settings.seed}
    bits = BitsPerByte.of(target["val_tokens"], target["val_bytes"], **choices)
    scratch, finetune = scores["scratch"].best, scores["finetune"].best if "finetune" in scores else None
    found: dict[str, Any] = {"curve": None, "leak": None, "sizes": size_sections(settings.sizes, inputs, losses, bits)}
    found["rivals"] = [
        rival_section(rival, losses, settings.rivals[rival.name], finetune, bits, target["val_bytes"])
        for rival in rivals
    ]
    if finetune is not None:
        shape = load_shape(arms[-1].model_json)
        batch_tokens = inputs["finetune"].manifest.config["finetune"]["batch_tokens"]
        found["curve"] = curve_section(stops, losses, scratch, finetune, shape, batch_tokens, bits)
        found["leak"] = leak_section(inputs, losses, scratch, finetune, bits)
    return found


def _weights(arms: Sequence[TrainedArm], inputs: Inputs) -> dict[str, ArmWeights]:
    """What is scored, in the order in which the report shows it."""
    found = {arm.name: _trained(arm) for arm in arms}
    if "pretrain" not in inputs:
        return found
    folder = inputs["pretrain"].folder
    model = (folder / "model.safetensors",)
    zero_shot = {"zero_shot": ArmWeights(folder / "model.json", best=model, last=model)}
    return {"scratch": found["scratch"], **zero_shot, "finetune": found["finetune"]}


def _trained(arm: TrainedArm) -> ArmWeights:
    return ArmWeights(
        arm.model_json, tuple(trial.best for trial in arm.trials), tuple(trial.last for trial in arm.trials)
    )


def _units(target: Mapping[str, Any]) -> Units:
    """What one nat per token of the validation text is in each unit of the report."""
    tokens = target["val_tokens"]
    return {
        "bits_per_byte": tokens / target["val_bytes"] / math.log(2),
        "nats_per_token": 1.0,
        "nats_per_char": tokens / target["validation_characters"],
    }


def _arms(
    arms: Sequence[TrainedArm],
    weights: Mapping[str, ArmWeights],
    scores: Mapping[str, ArmScores],
    units: Units,
    settings: ReportSection,
) -> dict[str, Any]:
    trained = {arm.name: arm.description() for arm in arms}
    untrained: dict[str, Any] = {"learning_rate": None, "steps": 0, "best_step": 0, "seeds": [], "grid": []}
    found = {}
    for name, score in scores.items():
        best, last = (
            arm_loss(losses, resamples=settings.resamples, seed=settings.seed) for losses in (score.best, score.last)
        )
        last_bits = last.scaled(units["bits_per_byte"])
        found[name] = {
            "params": num_parameters(load_shape(weights[name].model_json)),
            **trained.get(name, untrained),
            **{f"val_{unit}": _loss(best.scaled(factor)) for unit, factor in units.items()},
            "last_step_val_bits_per_byte": last_bits.mean,
            "last_step_val_bits_per_byte_ci95": [last_bits.low, last_bits.high],
            "last_step_val_bits_per_byte_per_seed": list(last_bits.per_seed),
        }
    return found


def _loss(estimate: Estimate) -> dict[str, Any]:
    return {"mean": estimate.mean, "ci95": [estimate.low, estimate.high], "per_seed": list(estimate.per_seed)}


def _gain(scores: Mapping[str, ArmScores], units: Units, settings: ReportSection) -> dict[str, Any] | None:
    if "finetune" not in scores:
        return None
    found = gain(scores["scratch"].best, scores["finetune"].best, resamples=settings.resamples, seed=settings.seed)
    values = {unit: found.scaled(factor) for unit, factor in units.items()}
    return {
        unit: {"mean": value.mean, "ci95": [value.low, value.high], "p_value": value.p_value}
        for unit, value in values.items()
    } | {"helps": found.low > 0}


def _same_windows(scores: Mapping[str, ArmScores]) -> bool:
    tokens = [losses.tokens for score in scores.values() for losses in (score.best, score.last)]
    return all(np.array_equal(tokens[0], other) for other in tokens)


def _pretrain(
    inputs: Inputs, tokenizer: Tokenizer, device: torch.device, settings: ReportSection
) -> dict[str, Any] | None:
    if "corpus" not in inputs:
        return None
    pretrain, shards = inputs["pretrain"], inputs["shards"]
    return pretraining_gap(pretrain, shards, tokenizer.sha256, device, resamples=settings.resamples)


def _samples(
    arms: Sequence[TrainedArm], tokenizer: Tokenizer, device: torch.device, settings: ReportSection
) -> dict[str, Any]:
    """What the first seed of each arm writes after the prompt, from the same random numbers."""
    texts: dict[str, str | None] = {"scratch": None, "finetune": None}
    for arm in arms:
        model = load_model(arm.trials[0].best, arm.model_json, device)
        texts[arm.name] = continued(
            model,
            tokenizer,
            settings.prompt,
            settings.sample_tokens,
            seed=settings.seed,
            temperature=settings.temperature,
        )
    return {**texts, "prompt": settings.prompt, "temperature": settings.temperature}


def _write(folder: Path, report: Mapping[str, Any], arms: Sequence[TrainedArm], inputs: Inputs) -> None:
    figures = drawings(report, arms, inputs)
    svg = {name: drawing.inline_svg(name, figure.draw, figure.description) for name, figure in figures.items()}
    write_text(folder / "report.json", json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_text(folder / "report.md", render.markdown(report))
    write_text(folder / "report.html", render.html(report, svg))
    drawing.write_png(folder / "gain.png", figures["comparison"].draw)


def _counts(report: Mapping[str, Any]) -> dict[str, Any]:
    means = {f"{name}_bits_per_byte": arm["val_bits_per_byte"]["mean"] for name, arm in report["arms"].items()}
    won = report["gain"]["bits_per_byte"] if report["gain"] else {"mean": None, "ci95": None}
    absent = dict.fromkeys(("scratch_bits_per_byte", "finetune_bits_per_byte", "zero_shot_bits_per_byte"))
    return {"gain_bits_per_byte": won["mean"], "ci95": won["ci95"], **absent, **means, "html": "report.html"}


def _rounded(value: Any) -> Any:
    """The same JSON with floats cut to the digits that mean something."""
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}")
    if isinstance(value, Mapping):
        return {name: _rounded(item) for name, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value
