"""The answer itself: the loss of each arm, and the gain, in every unit."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from gpt.counts import num_parameters
from pipeline.evaluation.arms import TrainedArm
from pipeline.evaluation.bits_per_byte import bits_per_byte
from pipeline.evaluation.intervals import arm_loss, gain
from pipeline.evaluation.scoring import ArmScores
from pipeline.graph.stage_counts import TargetCounts
from pipeline.report.finished_run import FinishedRun
from pipeline.report.report_records import ReportedDifference, ReportedLoss
from pipeline.report.run_scores import RunScores, arm_weights
from pipeline.report.section_records import ReportedArm, ReportedArms, ReportedGain, ReportedRefit, ReportedTrial
from pipeline.saved_models.weights import load_shape

UNTRAINED: dict[str, Any] = {"learning_rate": None, "steps": 0, "best_step": 0, "seeds": (), "grid": ()}


def arms_section(run: FinishedRun, scores: RunScores) -> ReportedArms:
    """Each arm: how it was trained, and its loss with the weights that are reported and with those of the last step."""
    characters = run.artifacts["target"].counts_as(TargetCounts).refit_characters
    trained = {
        arm.name: {**training_fields(arm), "batch_tokens": arm.batch_tokens, "refit": refit_fields(arm, characters)}
        for arm in run.arms
    }
    shapes = {name: load_shape(weights.model_json) for name, weights in arm_weights(run).items()}
    return ReportedArms(
        **{
            name: ReportedArm(
                params=num_parameters(shapes[name]), **trained.get(name, UNTRAINED), **_losses(run, scores.arms[name])
            )
            for name in scores.arms
        }
    )


def training_fields(arm: TrainedArm) -> dict[str, Any]:
    """The fields about how an arm was trained, which an arm and a rival share; steps are those of the median seed."""
    return {
        "learning_rate": arm.learning_rate,
        # The low median is a number of steps that some seed took, also with an even number of seeds.
        "steps": statistics.median_low(arm.steps_per_seed),
        "best_step": statistics.median_low(arm.best_step_per_seed),
        "seeds": arm.seeds,
        "steps_per_seed": arm.steps_per_seed,
        "best_step_per_seed": arm.best_step_per_seed,
        "grid": tuple(ReportedTrial(**trial.model_dump(exclude={"refit"})) for trial in arm.grid),
    }


def refit_fields(arm: TrainedArm, characters: int) -> ReportedRefit | None:
    """What the refits of an arm, or of a rival, were trained on and what chose for them; None if it reports trials."""
    best = arm.best_of_grid
    if not arm.refitted or best.best_step is None:
        return None
    return ReportedRefit(characters=characters, chosen_step=best.best_step, chosen_of=best.steps)


def gain_section(run: FinishedRun, scores: RunScores) -> ReportedGain | None:
    """Scratch minus finetune, paired by window; None if nothing was finetuned."""
    if not scores.has_gain:
        return None
    estimate = gain(scores.scratch, scores.finetune, resamples=run.section.resamples, seed=run.section.seed)
    # The p-value has no unit, and neither has the sign: both are the same in all three.
    in_units = {unit: ReportedDifference.of(estimate.scaled(factor)) for unit, factor in units(run).items()}
    return ReportedGain(**in_units, helps=estimate.low > 0)


def units(run: FinishedRun) -> Mapping[str, float]:
    """What one nat per token of the validation text is in each unit of the report."""
    target, tokens = run.artifacts["target"].counts_as(TargetCounts), run.windows.num_tokens
    return {
        "bits_per_byte": bits_per_byte(tokens, target.validation_bytes),
        "nats_per_token": 1.0,
        "nats_per_char": tokens / target.validation_characters,
    }


def _losses(run: FinishedRun, scores: ArmScores) -> dict[str, Any]:
    # One draw of the text serves all units, so their intervals are the same one.
    factors, choices = units(run), {"resamples": run.section.resamples, "seed": run.section.seed}
    best = arm_loss(scores.best, **choices)
    last = arm_loss(scores.last, **choices).scaled(factors["bits_per_byte"])
    return {
        **{f"val_{unit}": ReportedLoss.of(best.scaled(factor)) for unit, factor in factors.items()},
        "last_step_val_bits_per_byte": last.mean,
        "last_step_val_bits_per_byte_ci95": last.ci95,
        "last_step_val_bits_per_byte_per_seed": last.per_seed,
    }
