"""A trained model and its tokenizer, opened from the path of its weights or of the artifact that holds them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gpt.model import GPT
from pipeline.errors import DataError
from pipeline.graph.manifest import MANIFEST, Manifest, read_manifest
from pipeline.graph.store import Store
from pipeline.saved_models.model_files import SHAPE, WEIGHTS
from pipeline.saved_models.trial_record import reported_trials
from pipeline.saved_models.weights import load_model
from pipeline.tokens.tokenizer import TOKENIZER_FILE, Tokenizer, load_tokenizer


@dataclass(frozen=True)
class SavedModel:
    """Where a trained model lies: its weights, its shape, its tokenizer's folder, and the artifact it is part of."""

    weights: Path
    shape: Path
    tokenizer: Path
    artifact: Path | None = None  # None: a folder that `folio import` made, which belongs to no run

    @classmethod
    def of(cls, path: Path) -> SavedModel:
        """The model at a path: a weights file, a training stage's artifact (a refit of it), or an import's folder.

        Raises DataError if the path holds no weights, or weights in a folder that does not say their tokenizer.
        """
        weights = _weights(path)
        # An import keeps all three files together; a stage's tokenizer lies in an artifact that several stages share.
        if (weights.parent / TOKENIZER_FILE).is_file():
            return cls(weights, weights.parent / SHAPE, weights.parent)
        artifact = _artifact_of(weights)
        tokenizer = sibling(artifact, read_manifest(artifact), "tokenizer")
        return cls(weights, artifact / SHAPE, tokenizer, artifact)


def sibling(artifact: Path, manifest: Manifest, stage: str) -> Path:
    """The folder of the artifact of `stage` that this one was made from, in the same store."""
    return Store(artifact.parent).folder(stage, manifest.inputs[stage])


def open_model(path: Path, device: str = "cpu") -> tuple[GPT, Tokenizer]:
    """The model at `SavedModel.of(path)`, in evaluation mode and float32, and its tokenizer.

    Raises DataError if any of its files is missing or damaged.
    """
    saved = SavedModel.of(path)
    tokenizer = load_tokenizer(saved.tokenizer)
    return load_model(saved.weights, saved.shape, device), tokenizer


def _weights(path: Path) -> Path:
    if path.is_file():
        return path
    by_loss = sorted(reported_trials(path), key=lambda trial: trial.record.selection_loss)  # of refits the first
    for candidate in (path / WEIGHTS, *(trial.weights for trial in by_loss)):
        if candidate.is_file():
            return candidate
    raise DataError(
        f"{path} holds no weights.",
        remedy="Give a .safetensors file, or a folder artifacts/pretrain-…, scratch-… or finetune-….",
    )


def _artifact_of(weights: Path) -> Path:
    # Resolved first: a relative path has too few parents.
    for folder in weights.resolve().parents:
        if (folder / MANIFEST).is_file():
            return folder
    raise DataError(f"{weights} does not lie in a finished artifact.", remedy="Finish its stage first.")
