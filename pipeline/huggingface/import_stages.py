"""The stages `tokenizer` and `pretrain` of a run with imported weights: their artifacts are made from a GPT-2 folder.

Each stage reads the folder for itself, hours apart perhaps. So each looks before and after whether its files are still
those that were fingerprinted, and the manifests keep the sha256 of every file.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from gpt.counts import num_parameters
from gpt.model import GPT, GPTShape
from pipeline.config.training_sections import PretrainedSection
from pipeline.corpus.target_splits import target_text
from pipeline.errors import ConfigError, DataError
from pipeline.graph.stage_counts import ImportedCounts, TokenizerCounts
from pipeline.graph.work import Work
from pipeline.huggingface import tokenizer_files
from pipeline.huggingface.architectures import FOR_TRAINING
from pipeline.huggingface.import_gpt2 import checked_against, read_model, write_tokenizer
from pipeline.huggingface.parity import ComparedText
from pipeline.runtime.files import sha256_of
from pipeline.saved_models.model_files import WEIGHTS
from pipeline.saved_models.weights import save_shape, save_weights
from pipeline.tokens.tokenizer import load_tokenizer

# The keys of section `model` that together describe any GPT-2: what the remedy tells to write.
SIZE_KEYS = ("layers", "width", "heads", "context", "hidden")
DESCRIBING_KEYS = (*SIZE_KEYS, "position", "norm", "activation", "qk_norm", "bias", "tie_embeddings")


def take_tokenizer(work: Work) -> TokenizerCounts:
    """Leave the folder's tokenizer as tokenizer.json. Raises ConfigError if it is of a kind that Folio cannot read."""
    source = _source(work)
    write_tokenizer(source, work.folder)
    tokenizer = load_tokenizer(work.folder)
    work.outside["pretrained"].refuse_changed()
    return TokenizerCounts(
        kind=tokenizer.kind,
        vocab_size=tokenizer.vocab_size,
        sha256=tokenizer.sha256,
        imported_files={path.name: sha256_of(path) for path in tokenizer_files.files_to_read(source)},
    )


def take_weights(work: Work) -> ImportedCounts:
    """Leave the folder's weights as model.safetensors and model.json, as pretraining would.

    Raises ConfigError if the config describes another model, DataError if the folder changed, FolioError if the weights
    do not compute the same in Folio as in `transformers`.
    """
    source, section = _source(work), work.slice["pretrained"]
    target, tokenizer = work.inputs["target"].checked().folder, work.inputs["tokenizer"].checked().folder
    imported = read_model(source)
    _refuse_another_file(source, section, imported.files)
    shape = work.slice["model"].shape(load_tokenizer(tokenizer).vocab_size)
    model = cropped(imported.model, shape.context)
    refuse_another_shape(model.shape, shape)
    # On the selection text: nothing before the report opens the validation text.
    text = ComparedText("the target's selection text", target_text(target, "selection"))
    parity = checked_against(source, model, tokenizer, text, work.progress)
    save_weights(work.folder / WEIGHTS, dict(model.named_parameters()))
    save_shape(work.folder, shape)
    work.outside["pretrained"].refuse_changed()
    return ImportedCounts(
        parameters=num_parameters(shape),
        imported_files=imported.files,
        largest_logit_difference=parity.largest_difference,
    )


def _source(work: Work) -> Path:
    work.outside["pretrained"].refuse_changed()
    return Path(work.outside["pretrained"].address)


@torch.no_grad()
def cropped(model: GPT, context: int) -> GPT:
    """The model with only the first `context` of its positions: on texts of that length it computes the same."""
    if context >= model.shape.context:
        return model
    shorter = GPT(replace(model.shape, context=context)).eval()
    for here, there in zip(shorter.parameters(), model.parameters(), strict=True):
        here.copy_(there[: len(here)])  # only the table of positions is longer there
    return shorter


def refuse_another_shape(imported: GPTShape, configured: GPTShape) -> None:
    """Raise ConfigError if the config's model is not the imported one; the remedy is what to write."""
    here, there = resolved(configured), resolved(imported)
    differing = [f"{name} {here[name]}" for name in here if here[name] != there[name]]
    if differing:
        lines = ", ".join(f"{name}: {str(there[name]).lower()}" for name in DESCRIBING_KEYS)
        raise ConfigError(
            f"The config's model has {', '.join(differing)}; the imported weights do not.",
            remedy=f"Use model: {{{lines}}}; a smaller context is fine.",
        )


def resolved(shape: GPTShape) -> dict[str, Any]:
    """The fields of a shape that decide what a trained model computes, with implied defaults filled in."""
    implied = {"kv_heads": shape.key_value_heads, "hidden": shape.hidden_width, "qkv_bias": shape.biased_qkv}
    return {name: value for name, value in (asdict(shape) | implied).items() if name not in FOR_TRAINING}


def _refuse_another_file(source: Path, section: PretrainedSection, files: dict[str, str]) -> None:
    if section.sha256 is not None and files.get(WEIGHTS) != section.sha256:
        raise DataError(
            f"{source / WEIGHTS} has sha256 {files.get(WEIGHTS)}, the config asks for {section.sha256}.",
            remedy="Get the folder again, or change pretrained.sha256.",
        )
