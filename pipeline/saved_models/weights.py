"""Weights as safetensors beside the model's shape as JSON: what finetuning, evaluation and export read.

Safetensors and not torch.save, because reading a pickle runs whatever code its author put into it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gpt.model import GPT, GPTShape
from pipeline.errors import DataError
from pipeline.runtime.files import replacing, write_text
from pipeline.saved_models.model_files import SHAPE


def save_weights(path: Path, weights: Mapping[str, Tensor], **notes: str) -> None:
    """Write weights by name, so that a reader sees the old file or the new one. `notes` go into its header."""
    with replacing(path) as draft:
        save_file(dict(weights), draft, metadata=notes)


def save_shape(folder: Path, shape: GPTShape) -> None:
    """Leave the shape as model.json."""
    write_text(folder / SHAPE, json.dumps(asdict(shape), indent=1) + "\n")


def load_shape(path: Path) -> GPTShape:
    """The shape in a model.json. Raises DataError if it is missing or damaged."""
    try:
        return GPTShape(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} is not a model shape: {error}.", remedy="Run its stage again.") from None


def load_model(path: Path, shape: Path | GPTShape, device: str | torch.device = "cpu") -> GPT:
    """A GPT in evaluation mode with the weights of `path`, in float32.

    Raises DataError if the file is missing, damaged or of another shape.
    """
    model = GPT(load_shape(shape) if isinstance(shape, Path) else shape)
    load_weights(path, model)
    return model.to(device).eval()


@torch.no_grad()
def load_weights(path: Path, model: GPT) -> None:
    """Copy the weights of `path` into the model, converted to its dtype.

    Raises DataError if any is missing, surplus, of another size or not finite.
    """
    parameters = dict(model.named_parameters())  # tied weights appear once, in the file as here
    stored = _read(path)
    for name in {**parameters, **stored}:  # in the model's order, so that the first mismatch is always the same
        here = tuple(parameters[name].shape) if name in parameters else "nothing"
        there = tuple(stored[name].shape) if name in stored else "nothing"
        if here != there:
            raise DataError(
                f"{path} holds {there} for {name}, the model has {here}.", remedy="Use the model it was trained with."
            )
        refuse_lost_numbers(path, name, stored[name])
        parameters[name].copy_(stored[name])


def refuse_lost_numbers(path: Path, name: str, weight: Tensor) -> None:
    """Raise DataError if a weight of a file has NaN or infinite elements, with the place of the first."""
    lost = ~weight.isfinite()
    if lost.any():
        place = ", ".join(map(str, lost.nonzero()[0].tolist()))
        raise DataError(
            f"{path}: {int(lost.sum()):,} elements of {name} are NaN or infinite, the first at [{place}].",
            remedy="Run its stage again, or restore the file.",
        )


def _read(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} is not a readable weights file: {error}.", remedy="Run its stage again.") from None
