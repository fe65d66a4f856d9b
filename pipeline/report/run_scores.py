"""Every loss that the report speaks of, measured once: of each arm, each point of the curve, each variant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.evaluation.bits_per_byte import BitsPerByte
from pipeline.evaluation.intervals import Losses
from pipeline.evaluation.scoring import ArmScores, ArmWeights, score_files
from pipeline.graph.stage_counts import TargetCounts
from pipeline.report.finished_run import Files, FinishedRun
from pipeline.runtime.progress import Progress
from pipeline.saved_models.model_files import SHAPE, WEIGHTS


@dataclass(frozen=True)
class RunScores:
    """Losses on the validation text: per arm in the order of the report, and of each file of weights as one seed."""

    arms: Mapping[str, ArmScores]
    files: Mapping[Path, Losses]
    bits: BitsPerByte  # for the run's own windows

    @property
    def scratch(self) -> Losses:
        """The control's, with the weights of each seed that are reported."""
        return self.arms["scratch"].best

    @property
    def finetune(self) -> Losses:
        """The finetuned arm's, likewise. Only where something was pretrained."""
        return self.arms["finetune"].best

    @property
    def has_gain(self) -> bool:
        """Whether something was finetuned that the control can be compared with."""
        return "finetune" in self.arms


def scored(run: FinishedRun, device: torch.device, progress: Progress) -> RunScores:
    """Score every file of weights once. Raises DataError if one is missing or damaged."""
    losses = score_files(_files(run), run.windows, device, progress)
    # A rival's windows may be others, so it is scored apart even where they are the same.
    for rival in run.rivals:
        losses |= score_files(rival.files, rival.windows, device, progress)
    text_bytes = run.artifacts["target"].counts_as(TargetCounts).validation_bytes
    bits = BitsPerByte.of(run.windows.num_tokens, text_bytes, resamples=run.section.resamples, seed=run.section.seed)
    arms = {name: ArmScores.of(weights, losses) for name, weights in arm_weights(run).items()}
    return RunScores(arms, losses, bits)


def arm_weights(run: FinishedRun) -> dict[str, ArmWeights]:
    """The weights of each arm, in the order of the report."""
    trained = {arm.name: ArmWeights(arm.model_json, arm.weights, arm.last_weights) for arm in run.arms}
    if "pretrain" not in run.artifacts:
        return trained
    folder = run.artifacts["pretrain"].folder
    # Zero-shot has no steps on the target, so its best and its last weights are the same file.
    model = (folder / WEIGHTS,)
    zero_shot = ArmWeights(folder / SHAPE, best=model, last=model)
    return {"scratch": trained["scratch"], "zero_shot": zero_shot, "finetune": trained["finetune"]}


def _files(run: FinishedRun) -> Files:
    """Weights to score on the run's own windows; a file that several sections need is there once."""
    # The order is that of the progress bar; the losses do not depend on it.
    files: Files = {}
    for weights in arm_weights(run).values():
        files |= weights.files
    for point in run.points:
        files |= dict.fromkeys((point.pretrained, point.finetuned.weights), run.arms[-1].model_json)
    files |= run.leak.files if run.leak else {}
    for size in run.sizes:
        files |= size.files
    return files
