"""Section `caveats`: every reason for doubt, found in how the run was trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipeline.evaluation.arms import TrainedArm
from pipeline.evaluation.intervals import block_windows
from pipeline.graph.stage_counts import PretrainCounts, ShardsCounts
from pipeline.report.finished_run import FinishedRun
from pipeline.report.section_records import ReportedPretraining, ReportedRival
from pipeline.report.wording import interval, number

IMPORTED = (
    "The pretrained weights were imported. What they were trained on is not known here, so it cannot be "
    "excluded that it holds the validation text; the gain may partly be memory."
)
NOTHING_HELD_OUT = "No part of the corpus was held out, so nothing says how much pretraining memorized."
TOO_LITTLE_HELD_OUT = "The corpus has too little validation text to say how much pretraining memorized."


def caveats_section(
    run: FinishedRun, control: float, rivals: Sequence[ReportedRival], *, pretraining: ReportedPretraining | None
) -> tuple[str, ...]:
    """What limits the answer, one sentence each. `control` is the scratch arm's loss in bits per byte.

    `pretraining` is its section of the report, if there is one.
    """
    max_steps = {arm.name: run.artifacts[arm.name].manifest.config[arm.name]["max_steps"] for arm in run.arms}
    # A control that is too weak comes first: it is what would flatter the gain most.
    lines = [*rival_caveats(rivals, control), *arm_caveats(run.arms, max_steps)]
    if len(run.arms) > 1:
        lines.append("One pretraining run: the intervals do not say how much another pretraining seed would change.")
    if run.imported_files is not None:
        lines.append(IMPORTED)
    if "corpus" in run.artifacts and (pretraining is None or pretraining.gap is None):
        nothing = run.artifacts["shards"].counts_as(ShardsCounts).corpus_validation.tokens == 0
        lines.append(NOTHING_HELD_OUT if nothing else TOO_LITTLE_HELD_OUT)
    return (*lines, *batch_caveats(run), *short_text_caveats(run))


def short_text_caveats(run: FinishedRun) -> Iterator[str]:
    """Doubts about a target so short that its splits hold a few windows of the model's context, or none."""
    num_windows, context = run.windows.inputs.shape
    if run.windows.in_pieces:
        blocks = max(num_windows // block_windows(num_windows), 2)
        yield (
            f"The validation text has {run.windows.num_tokens:,} tokens; the interval rests on {blocks} draws of "
            f"neighbouring pieces of it, which say little about another text."
        )
    selection = run.artifacts["shards"].counts_as(ShardsCounts).target_selection.tokens
    if selection <= context:
        yield f"Learning rates and best steps were chosen on {selection:,} tokens, less than one window."


def batch_caveats(run: FinishedRun) -> Iterator[str]:
    """Stages whose text had too few samples for the batches that the config asks for."""
    trained = {arm.name: arm.batch_tokens for arm in run.arms}
    if "corpus" in run.artifacts:
        trained = {"pretrain": run.artifacts["pretrain"].counts_as(PretrainCounts).batch_tokens, **trained}
    for stage, batch_tokens in trained.items():
        asked = run.artifacts[stage].manifest.config[stage]["batch_tokens"]
        if batch_tokens < asked:
            yield f"{stage}: the text is too short for batches of {asked:,} tokens; they had {batch_tokens:,}."


def arm_caveats(arms: Sequence[TrainedArm], max_steps: Mapping[str, int]) -> Iterator[str]:
    """Doubts about how each arm was trained; `max_steps`: arm name -> the steps that were planned."""
    for arm in arms:
        yield from _rate_caveats(arm)
        yield from _trial_caveats(arm, max_steps[arm.name])


def _rate_caveats(arm: TrainedArm) -> Iterator[str]:
    # The grid is sorted here: a config may list its rates in any order.
    rates = sorted(trial.learning_rate for trial in arm.grid)
    if len(rates) > 1 and arm.learning_rate in (rates[0], rates[-1]):
        yield (
            f"{arm.name}: the best learning rate is at the edge of the grid ({arm.learning_rate:g} of "
            f"{rates[0]:g} to {rates[-1]:g}); a better one may lie outside."
        )
    if len(rates) == 1:
        yield f"{arm.name}: only one learning rate was tried, {rates[0]:g}."


def _trial_caveats(arm: TrainedArm, max_steps: int) -> Iterator[str]:
    # A best step before the end says that the loss had turned: only then have more steps been shown not to help.
    if (arm.best_of_grid.best_step or 0) >= max_steps:
        yield f"{arm.name}: the best trial was still improving at its last step; more steps may lower the loss."
    if not arm.refitted:
        yield (
            f"{arm.name}: its trials are reported, at the steps that the selection text chose for each; they were not "
            "trained on that text (refit: false)."
        )
    if arm.diverged_seeds:
        seeds = ", ".join(map(str, arm.diverged_seeds))
        yield f"{arm.name}: training diverged with seed {seeds}, which the mean leaves out."
    if len(arm.trials) == 1:
        yield f"{arm.name}: one seed; its interval holds the text's uncertainty but not the training's."


def rival_caveats(rivals: Sequence[ReportedRival], control: float) -> list[str]:
    """Doubt about the control: every rival from scratch whose loss is below its `control`, the best first."""
    better = [rival for rival in rivals if rival.val_bits_per_byte.mean < control]
    return [_rival_caveat(rival, control) for rival in sorted(better, key=lambda rival: rival.val_bits_per_byte.mean)]


def _rival_caveat(rival: ReportedRival, control: float) -> str:
    reached = f"{rival.name}, from scratch, reaches {number(rival.val_bits_per_byte.mean)} bits per byte"
    gain = rival.gain_bits_per_byte
    over_it = f"; the gain over it is {number(gain.mean)} ({interval(gain)})" if gain else ""
    return f"{reached}, less than the control's {number(control)}{over_it}."
