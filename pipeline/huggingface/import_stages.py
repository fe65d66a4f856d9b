"""The stages `tokenizer` and `pretrain` of a run whose weights are imported: a GPT-2 folder becomes their artifacts.

The folder is read once for each; the receipts keep the sha256 of every file, and weights are refused beside another
tokenizer than the one that the shards were made with. The training stages never open the validation text, so imported
and original weights are compared on the selection text.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from gpt.counts import num_parameters
from gpt.model import GPT, GPTShape
from pipeline.config.schema import PretrainedSection
from pipeline.errors import ConfigError, DataError
from pipeline.graph.work import Work
from pipeline.huggingface import tokenizer_files
from pipeline.huggingface.architectures import FOR_TRAINING
from pipeline.huggingface.import_gpt2 import WEIGHTS, checked_against, read_model, write_tokenizer
from pipeline.huggingface.parity import ComparedText
from pipeline.runtime.files import sha256_of
from pipeline.saved_models.weights import save_shape, save_weights
from pipeline.tokens.tokenizer import FILE, load_tokenizer

# What a config says to get a GPT-2.
SIZES = ("layers", "width", "heads", "context", "hidden")
DESCRIBED = (*SIZES, "position", "norm", "activation", "qk_norm", "bias", "tie_embeddings")


def take_tokenizer(work: Work) -> dict[str, Any]:
    """Leave the folder's tokenizer as tokenizer.json. Raises ConfigError if it is none that Folio reads."""
    source = _source(work)
    write_tokenizer(source, work.folder)
    tokenizer = load_tokenizer(work.folder)
    return {
        "kind": tokenizer.kind,
        "vocab_size": tokenizer.vocab_size,
        "sha256": tokenizer.sha256,
        "imported_files": {path.name: sha256_of(path) for path in tokenizer_files.files(source)},
    }


def take_weights(work: Work) -> dict[str, Any]:
    """Leave the folder's weights as model.safetensors and model.json, as pretraining would.

    Raises ConfigError if the config describes another model, DataError if the folder changed, FolioError if the weights
    do not compute what `transformers` computes with them.
    """
    source, settings = _source(work), work.slice["pretrained"]
    target, tokenizer = work.inputs["target"].checked().folder, work.inputs["tokenizer"].checked().folder
    imported = read_model(source)
    _refuse_another_file(source, settings, imported.files)
    _refuse_another_tokenizer(source, tokenizer)
    shape = work.slice["model"].shape(load_tokenizer(tokenizer).vocab_size)
    model = cropped(imported.model, shape.context)
    refuse_another_shape(model.shape, shape)
    text = ComparedText("the target's selection text", (target / "selection.txt").read_bytes().decode())
    parity = checked_against(source, model, tokenizer, text, work.progress)
    save_weights(work.folder / WEIGHTS, dict(model.named_parameters()))
    save_shape(work.folder, shape)
    return {
        "parameters": num_parameters(shape),
        "imported_files": imported.files,
        "largest_logit_difference": parity.largest_difference,
    }


def _source(work: Work) -> Path:
    return Path(work.slice["pretrained"].path)


@torch.no_grad()
def cropped(model: GPT, context: int) -> GPT:
    """The model with the first `context` of its positions: what it computes on texts that short stays the same."""
    if context >= model.shape.context:
        return model
    shorter = GPT(replace(model.shape, context=context)).eval()
    for here, there in zip(shorter.parameters(), model.parameters(), strict=True):
        here.copy_(there[: len(here)])
    return shorter


def refuse_another_shape(found: GPTShape, wanted: GPTShape) -> None:
    """Raise ConfigError if the config's model is not the imported one; the remedy is what to write."""
    here, there = resolved(wanted), resolved(found)
    differing = [f"{name} {here[name]}" for name in here if here[name] != there[name]]
    if differing:
        lines = ", ".join(f"{name}: {str(there[name]).lower()}" for name in DESCRIBED)
        raise ConfigError(
            f"The config's model has {', '.join(differing)}; the imported weights have not.",
            remedy=f"Use model: {{{lines}}}; a smaller context is fine.",
        )


def resolved(shape: GPTShape) -> dict[str, Any]:
    """All that decides what a model computes, with defaults filled in."""
    implied = {"kv_heads": shape.key_value_heads, "hidden": shape.hidden_width, "qkv_bias": shape.biased_qkv}
    return {name: value for name, value in (asdict(shape) | implied).items() if name not in FOR_TRAINING}


def _refuse_another_file(source: Path, settings: PretrainedSection, files: dict[str, str]) -> None:
    if settings.sha256 is not None and files.get(WEIGHTS) != settings.sha256:
        raise DataError(
            f"{source / WEIGHTS} has sha256 {files.get(WEIGHTS)}, the config asks for {settings.sha256}.",
            remedy="Get the folder again, or change pretrained.sha256.",
        )


def _refuse_another_tokenizer(source: Path, tokenizer: Path) -> None:
    if tokenizer_files.imported(source) != (tokenizer / FILE).read_text(encoding="utf-8"):
        raise DataError(
            f"{source} has another tokenizer than when {tokenizer} was made from it.",
            remedy=f"Delete {tokenizer} and run the chain again.",
        )
