"""Section `rivals`: other models from scratch that the gain must hold against, whatever their size and tokenizer."""

from __future__ import annotations

import math
from dataclasses import replace

from gpt.counts import num_parameters
from pipeline.evaluation.bits_per_byte import BitsPerByte, bits_per_byte
from pipeline.evaluation.intervals import Estimate, Losses
from pipeline.evaluation.scoring import stacked
from pipeline.graph.stage_counts import TargetCounts
from pipeline.report.finished_run import FinishedRun, Rival
from pipeline.report.report_records import ReportedLoss, ReportedMean
from pipeline.report.run_scores import RunScores
from pipeline.report.section_records import ReportedRival
from pipeline.report.sections.arm_losses import refit_fields, training_fields
from pipeline.saved_models.weights import load_shape


def rivals_section(run: FinishedRun, scores: RunScores) -> tuple[ReportedRival, ...]:
    """Each rival, in the order of the config: how it was trained, its loss, and the gain over it."""
    target = run.artifacts["target"].counts_as(TargetCounts)
    return tuple(_rival(rival, scores, target) for rival in run.rivals)


def _rival(rival: Rival, scores: RunScores, target: TargetCounts) -> ReportedRival:
    # Another tokenizer cuts the text into another number of tokens, so a nat per token is another number of bits.
    bits = replace(scores.bits, factor=bits_per_byte(rival.windows.num_tokens, target.validation_bytes))
    best, last = (stacked(scores.files, files) for files in (rival.arm.weights, rival.arm.last_weights))
    over_it = _gain_over(rival, best, bits, scores) if scores.has_gain else None
    return ReportedRival(
        name=rival.name,
        changes=dict(rival.changes),
        params=num_parameters(load_shape(rival.arm.model_json)),
        **training_fields(rival.arm),
        val_bits_per_byte=ReportedLoss.of(bits.loss(best)),
        last_step_val_bits_per_byte=bits.loss(last).mean,
        gain_bits_per_byte=None if over_it is None else ReportedMean.of(over_it),
        refit=refit_fields(rival.arm, target.refit_characters),
    )


def _gain_over(rival: Rival, best: Losses, bits: BitsPerByte, scores: RunScores) -> Estimate:
    """The rival's loss minus the finetuned one: paired by window if both have the same windows."""
    # Pairing takes out what makes a passage hard for both models; it needs the same passages on both sides.
    if rival.same_windows:
        return scores.bits.gain(best, scores.finetune)
    return unpaired_difference(bits.loss(best), scores.bits.loss(scores.finetune))


def unpaired_difference(first: Estimate, second: Estimate) -> Estimate:
    """First minus second of estimates that are not paired, without a p-value.

    The intervals are joined by their squares (Newcombe 1998), which errs on the wide side.
    """
    mean = first.mean - second.mean
    low = mean - math.hypot(first.mean - first.low, second.high - second.mean)
    high = mean + math.hypot(first.high - first.mean, second.mean - second.low)
    # Two intervals say nothing of how likely a larger difference would be; NaN cannot slip into report.json.
    return Estimate(mean, low, high, p_value=math.nan)
