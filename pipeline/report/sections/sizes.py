"""The gain over model size: the run's own model beside smaller or larger ones, on the same text and windows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gpt.counts import flops_per_token, num_parameters
from pipeline.evaluation.arms import read_arm
from pipeline.evaluation.bits_per_byte import BitsPerByte, as_json
from pipeline.evaluation.intervals import Losses
from pipeline.graph.work import Artifact
from pipeline.saved_models.weights import load_shape

Inputs = Mapping[str, Artifact]
STAGES = ("scratch", "pretrain", "finetune")


def size_files(names: Iterable[str], inputs: Inputs) -> dict[Path, Path]:
    """Weights of the other sizes to score -> shape of their model."""
    return {
        file: inputs[f"{name}.{stage}"].folder / "model.json"
        for name in names
        for stage, file in zip(STAGES, _weights(name, inputs), strict=True)
    }


def size_sections(
    names: Iterable[str], inputs: Inputs, losses: Mapping[Path, Losses], bits: BitsPerByte
) -> list[dict[str, Any]]:
    """Each size and the run's own, smallest first: its parameters, and on the first seed the loss of each arm and the
    gain, in bits per byte. Empty without other sizes.
    """
    names = list(names)
    found = [_section(name, inputs, losses, bits) for name in (*names, "")] if names else []
    return sorted(found, key=lambda one: int(one["params"]))


def _section(name: str, inputs: Inputs, losses: Mapping[Path, Losses], bits: BitsPerByte) -> dict[str, Any]:
    scratch, pretrained, finetuned = (losses[file] for file in _weights(name, inputs))
    pretrain = inputs[_input(name, "pretrain")]
    shape = load_shape(pretrain.folder / "model.json")
    return {
        "name": name or "this run",
        "params": num_parameters(shape),
        "pretraining_flops": flops_per_token(shape) * pretrain.manifest.counts["tokens"],
        "learning_rates": {arm: read_arm(inputs[_input(name, arm)]).learning_rate for arm in ("scratch", "finetune")},
        "scratch": as_json(bits.loss(scratch)),
        "zero_shot": as_json(bits.loss(pretrained)),
        "finetune": as_json(bits.loss(finetuned)),
        "gain": as_json(bits.saved(scratch, finetuned)),
    }


def _weights(name: str, inputs: Inputs) -> tuple[Path, Path, Path]:
    """Of the first seed: from scratch, pretrained, finetuned. The run's own have no name."""
    scratch, finetune = (read_arm(inputs[_input(name, arm)]).trials[0].best for arm in ("scratch", "finetune"))
    return scratch, inputs[_input(name, "pretrain")].folder / "model.safetensors", finetune


def _input(name: str, stage: str) -> str:
    return f"{name}.{stage}" if name else stage
