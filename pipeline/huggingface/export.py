"""A trained model as a folder that `transformers` loads, written only after it was loaded and found equal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from safetensors.torch import save_file

from gpt.counts import num_parameters
from gpt.model import GPT
from pipeline.corpus.installed_text import language_reference
from pipeline.errors import ConfigError, DataError, EnvironmentFault
from pipeline.graph.manifest import Manifest, read_manifest
from pipeline.graph.work import Artifact
from pipeline.huggingface import tokenizer_files
from pipeline.huggingface.architectures import Layout, layout_of
from pipeline.huggingface.parity import ComparedText, Parity, compare, loaded
from pipeline.runtime.formatting import readable_count
from pipeline.runtime.progress import Progress
from pipeline.saved_models.saved_model import SavedModel, sibling
from pipeline.saved_models.weights import load_model
from pipeline.tokens.tokenizer import Tokenizer, load_tokenizer

FALLBACK_CHARACTERS = 50_000


class Exported(NamedTuple):
    """What was written, and how it compared."""

    architecture: str
    parity: Parity


def export(checkpoint: Path, folder: Path, text: Path | None = None) -> Exported:
    """Write the model of a checkpoint to a new folder in the layout of `transformers`, with its tokenizer and a card.

    The models are compared on `text`, by default the run's validation text. Raises ConfigError if the model has no such
    form, DataError if the checkpoint is damaged, and FolioError if the two differ; nothing is left at `folder` then.
    """
    place = SavedModel.of(checkpoint)
    manifest = _checked(place)
    model, tokenizer = load_model(place.weights, place.shape), load_tokenizer(place.tokenizer)
    layout = layout_of(model, tokenizer.end_of_text)
    with published(folder) as draft:
        write_layout(draft, layout)
        write_tokenizer(draft, place.tokenizer, tokenizer, model.shape.context)
        parity = compare(model, tokenizer, loaded(draft), text_for(place, text), Progress("export"))
        parity.asserted(f"The export of {place.weights}")
        (draft / "README.md").write_text(card(layout, model, parity, manifest), encoding="utf-8")
    return Exported(layout.architecture, parity)


def _checked(place: SavedModel) -> Manifest | None:
    """The receipt of the artifact that holds the weights, after every file matched its hash; None outside a store."""
    if place.artifact is None:
        return None
    manifest = read_manifest(place.artifact)
    Artifact(manifest.stage, place.artifact, manifest).checked()
    Artifact("tokenizer", place.tokenizer, read_manifest(place.tokenizer)).checked()
    return manifest


@contextmanager
def published(folder: Path) -> Iterator[Path]:
    """A folder to fill, beside `folder`, which becomes `folder` if the block ends without an error.

    Raises ConfigError if something is there already, EnvironmentFault if its place cannot be made.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already.", remedy="Give a folder that is new or empty.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(
            f"{folder.parent} cannot be made: {error.strerror}.", remedy="Give a DIR that can be written."
        ) from error
    with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as around:
        draft = Path(around) / folder.name
        draft.mkdir()
        yield draft
        draft.replace(folder)


def write_layout(folder: Path, layout: Layout) -> None:
    """Leave config.json, generation_config.json and model.safetensors."""
    ends = {name: layout.config[name] for name in ("bos_token_id", "eos_token_id")}
    _write_json(folder / "config.json", layout.config)
    _write_json(folder / "generation_config.json", {**ends, "pad_token_id": ends["eos_token_id"]})
    weights = folder / "model.safetensors"
    save_file(layout.weights, weights, metadata={"format": "pt"})
    weights.chmod(0o644)  # safetensors writes for the owner alone, unlike everything else here


def write_tokenizer(folder: Path, source: Path, tokenizer: Tokenizer, context: int) -> None:
    """Leave tokenizer.json and tokenizer_config.json."""
    tokenizer_files.exported(source, tokenizer).save(str(folder / "tokenizer.json"))
    _write_json(folder / "tokenizer_config.json", tokenizer_files.settings(context))


def text_for(place: SavedModel, given: Path | None) -> ComparedText:
    """What to compare on: the given file, the validation text in the same store, or text every installation has.

    Raises DataError if the given file is no text.
    """
    if given is not None:
        return ComparedText(str(given), read_text(given))
    validation = _validation_text(place)
    if validation is not None and validation.is_file():
        return ComparedText("the run's validation text", read_text(validation))
    return ComparedText(
        "Python's language reference (no validation text in reach)", language_reference()[:FALLBACK_CHARACTERS]
    )


def _validation_text(place: SavedModel) -> Path | None:
    try:
        if place.artifact is None:
            return None
        shards = sibling(place.artifact, read_manifest(place.artifact), "shards")
        return sibling(shards, read_manifest(shards), "target") / "validation.txt"
    except DataError:  # the store holds the weights and not what they were scored on
        return None


def read_text(path: Path) -> str:
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no readable UTF-8 text: {error}.", remedy="Give another --text.") from None
    if not text:
        raise DataError(f"{path} is empty.", remedy="Give another --text.")
    return text


def card(layout: Layout, model: GPT, parity: Parity, manifest: Manifest | None) -> str:
    """The folder's README: what the model is, where it comes from, how it was checked, how to use it."""
    origin = "a folder that `folio import` wrote"
    if manifest is not None:
        origin = f"stage `{manifest.stage}` of run `{manifest.run}` ({manifest.fingerprint[:12]})"
        origin += f", made by Folio at commit `{manifest.git_commit}`"
    doubled = layout.config.get("hidden_act") == "relu"
    squared = "\nIts squared ReLU is written as relu(gate) * up with the same matrix as gate and as up.\n"
    return f"""---
library_name: transformers
pipeline_tag: text-generation
---
A {layout.architecture} with {readable_count(num_parameters(model.shape))} parameters and a context of \
{model.shape.context} tokens, exported by Folio from {origin}.
{squared if doubled else ""}
Checked when it was written, against the model it comes from:

```
{parity.table()}
```

```python
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("this folder")
tokenizer = AutoTokenizer.from_pretrained("this folder")
prompt = torch.tensor([[tokenizer.bos_token_id, *tokenizer("ROMEO:")["input_ids"]]])
print(tokenizer.decode(model.generate(prompt, max_new_tokens=100, do_sample=True)[0], skip_special_tokens=True))
```

In training every document began with `<|endoftext|>`, here the tokenizer's `bos_token_id`: put it first where a text
is to begin. The same characters inside a text stay text.
"""


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
