"""The leak ablation: what the gain would have been with the validation text left in the corpus."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.evaluation.arms import read_arm
from pipeline.evaluation.bits_per_byte import BitsPerByte, as_json
from pipeline.evaluation.intervals import Losses
from pipeline.evaluation.scoring import stacked
from pipeline.graph.work import Artifact

Inputs = Mapping[str, Artifact]


def leak_files(inputs: Inputs) -> dict[Path, Path]:
    """Weights of the leak ablation to score -> shape of their model; none without one."""
    if "leak.finetune" not in inputs:
        return {}
    arm, pretrained = read_arm(inputs["leak.finetune"]), inputs["leak.pretrain"].folder
    files = {trial.best: arm.model_json for trial in arm.trials}
    return {**files, pretrained / "model.safetensors": pretrained / "model.json"}


def leak_section(
    inputs: Inputs, losses: Mapping[Path, Losses], scratch: Losses, finetune: Losses, bits: BitsPerByte
) -> dict[str, Any] | None:
    """The report's `leak`, in bits per byte; None without a leak ablation.

    `memory` is how much lower the finetuned loss would have been, paired by window: what looks like gain and is not.
    """
    if "leak.finetune" not in inputs:
        return None
    arm = read_arm(inputs["leak.finetune"])
    leaky = stacked(losses, [trial.best for trial in arm.trials])
    memory = bits.saved(finetune, leaky)
    contamination = inputs["corpus"].manifest.counts["contamination"]
    return {
        "documents_left_in": contamination["documents_removed"],
        "bytes_left_in": contamination["bytes_removed"],
        "val_ngrams_total": contamination["val_ngrams_total"],
        "val_ngrams_left_in_shards": inputs["leak.shards"].manifest.counts["val_ngrams_left_in_shards"],
        "learning_rate": arm.learning_rate,
        "zero_shot": as_json(bits.loss(losses[inputs["leak.pretrain"].folder / "model.safetensors"])),
        "finetune": as_json(bits.loss(leaky)),
        "gain": as_json(bits.saved(scratch, leaky)),
        "memory": {**as_json(memory), "p_value": memory.p_value},
    }
