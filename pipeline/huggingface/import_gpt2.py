"""`folio import`: GPT-2 from a local folder of `transformers`, with its tokenizer, as a GPT of ours.

Such a folder holds config.json, and model.safetensors whole or in several files that an index lists.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from gpt.model import GPT, ShapeError
from pipeline.corpus.installed_text import language_reference
from pipeline.errors import ConfigError, DataError
from pipeline.huggingface import gpt2, tokenizer_files
from pipeline.huggingface.export import FALLBACK_CHARACTERS, published, read_text
from pipeline.huggingface.parity import ComparedText, Parity, compare, load_with_transformers
from pipeline.runtime.files import sha256_of, write_text
from pipeline.runtime.progress import Progress
from pipeline.saved_models.model_files import WEIGHTS
from pipeline.saved_models.weights import refuse_lost_numbers, save_shape, save_weights
from pipeline.tokens.tokenizer import TOKENIZER_FILE, load_tokenizer

# In the source's folder; its weights have the same file name as ours, WEIGHTS.
INDEX, CONFIG = f"{WEIGHTS}.index.json", "config.json"
COMPLETE = "Get the folder again, with its safetensors files."


@dataclass(frozen=True)
class ImportedModel:
    """The model of a folder, and the sha256 of each file that it was read from, by file name."""

    model: GPT
    files: dict[str, str]


def import_folder(source: Path, folder: Path, text: Path | None = None) -> Parity:
    """Convert a folder to model.safetensors, model.json and tokenizer.json in a new one. Returns how the two compare.

    Raises ConfigError if it is not a GPT-2, DataError if a file is missing or damaged, FolioError if the two differ.
    `folder` is not there then.
    """
    compared = ComparedText(str(text), read_text(text)) if text else reference_text()
    with published(folder) as draft:
        model = read_model(source).model
        write_tokenizer(source, draft)
        parity = checked_against(source, model, draft, compared, Progress("import"))
        save_weights(draft / WEIGHTS, dict(model.named_parameters()))
        save_shape(draft, model.shape)
    return parity


def reference_text() -> ComparedText:
    """A text that every installation has: nothing needs to be downloaded for the comparison."""
    return ComparedText("Python's language reference", language_reference()[:FALLBACK_CHARACTERS])


def read_model(source: Path) -> ImportedModel:
    """The model of a folder, in float32 and evaluation mode.

    Raises ConfigError if it is not a GPT-2, DataError if a file is missing or damaged.
    """
    config = _read_json(source / CONFIG)
    weights = _weight_files(source)
    tensors: dict[str, Tensor] = {}
    for path in weights:
        tensors |= _tensors(path)
    try:
        shape = gpt2.shape_of(config, str(source / CONFIG))
    except (KeyError, TypeError, ShapeError) as error:
        raise ConfigError(f"{source / CONFIG} does not describe a GPT-2 ({error}).", remedy=COMPLETE) from error
    model = gpt2.model_of(shape, tensors, str(source))
    # Hashed from the disk, not from memory: provenance names the bytes that anybody can compare with a download.
    return ImportedModel(model, {path.name: sha256_of(path) for path in (source / CONFIG, *weights)})


def write_tokenizer(source: Path, folder: Path) -> None:
    """Leave the source's tokenizer as our tokenizer.json. Raises ConfigError if it is of another kind."""
    write_text(folder / TOKENIZER_FILE, tokenizer_files.imported_tokenizer(source))


def checked_against(source: Path, model: GPT, tokenizer: Path, text: ComparedText, progress: Progress) -> Parity:
    """How our model, and the tokenizer in folder `tokenizer`, compare with what `transformers` loads from the source.

    Raises ConfigError if model and tokenizer differ in their vocabulary, FolioError if the two sides compute different
    things.
    """
    ours = load_tokenizer(tokenizer)
    if ours.vocab_size != model.shape.vocab_size:
        raise ConfigError(
            f"{source} has a model of {model.shape.vocab_size:,} tokens and a tokenizer of {ours.vocab_size:,}.",
            remedy="Import a folder whose model and tokenizer agree.",
        )
    theirs = load_with_transformers(source)
    theirs.tokenizer.split_special_tokens = True  # as ours: text that spells out end-of-text stays text
    return compare(model, ours, theirs, text, progress).checked(f"The model imported from {source}")


def _weight_files(source: Path) -> list[Path]:
    """The safetensors files of a folder: one, or those that its index names."""
    if not (source / INDEX).is_file():
        return [source / WEIGHTS]
    try:
        return [source / name for name in sorted(set(_read_json(source / INDEX)["weight_map"].values()))]
    except (KeyError, AttributeError, TypeError):
        raise DataError(f"{source / INDEX} does not list the weight files.", remedy=COMPLETE) from None


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} is not a readable weights file: {error}.", remedy=COMPLETE) from None
    for name, tensor in tensors.items():
        refuse_lost_numbers(path, name, tensor)
    return tensors


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}.", remedy=COMPLETE) from None
