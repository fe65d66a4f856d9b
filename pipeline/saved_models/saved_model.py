"""Text from a trained model, found by the path of its weights or of the artifact that holds them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gpt.model import GPT
from pipeline.errors import DataError
from pipeline.graph.manifest import MANIFEST, Manifest, read_manifest
from pipeline.saved_models.model_files import SHAPE
from pipeline.saved_models.weights import load_model
from pipeline.tokens.tokenizer import FILE, Tokenizer, load_tokenizer


@dataclass(frozen=True)
class SavedModel:
    """Where a trained model lies: its weights, its shape, its tokenizer's folder, and the artifact it is part of."""

    weights: Path
    shape: Path
    tokenizer: Path
    artifact: Path | None = None

    @classmethod
    def of(cls, path: Path) -> SavedModel:
        """Where the model of a path lies: a weights file, a training stage's artifact (its best trial), or an import.

        Raises DataError if the path holds no weights, or weights that nothing says the shape and tokenizer of.
        """
        weights = _weights(path)
        if (weights.parent / FILE).is_file():
            return cls(weights, weights.parent / SHAPE, weights.parent)
        artifact = _artifact_of(weights)
        tokenizer = sibling(artifact, read_manifest(artifact), "tokenizer")
        return cls(weights, artifact / SHAPE, tokenizer, artifact)


def sibling(artifact: Path, manifest: Manifest, stage: str) -> Path:
    """The folder of the artifact that this one was made from, in the same store."""
    return artifact.parent / f"{stage}-{manifest.inputs[stage][:12]}"


def open_model(path: Path, device: str = "cpu") -> tuple[GPT, Tokenizer]:
    """The model at `Place.of(path)` and its tokenizer. Raises DataError if any of it is missing or damaged."""
    place = SavedModel.of(path)
    tokenizer = load_tokenizer(place.tokenizer)
    return load_model(place.weights, place.shape, device), tokenizer


def _weights(path: Path) -> Path:
    if path.is_file():
        return path
    found = [path / "model.safetensors", *(trial / "best.safetensors" for trial in _trials_by_loss(path))]
    for candidate in found:
        if candidate.is_file():
            return candidate
    raise DataError(
        f"{path} holds no weights.",
        remedy="Give a .safetensors file, or a folder artifacts/pretrain-…, scratch-… or finetune-….",
    )


def _trials_by_loss(artifact: Path) -> Iterator[Path]:
    trials = {path.parent: json.loads(path.read_text()) for path in sorted(artifact.glob("trials/*/trial.json"))}
    finished = [folder for folder in trials if trials[folder]["best_selection_nats_per_token"] is not None]
    yield from sorted(finished, key=lambda folder: float(trials[folder]["best_selection_nats_per_token"]))


def _artifact_of(weights: Path) -> Path:
    for folder in weights.resolve().parents:
        if (folder / MANIFEST).is_file():
            return folder
    raise DataError(f"{weights} does not lie in a finished artifact.", remedy="Finish its stage first.")
