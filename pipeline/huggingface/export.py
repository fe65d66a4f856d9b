"""`folio export`: a trained model as a folder for `transformers`, kept only if it computes the same there."""

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
from pipeline.corpus.target_splits import target_file
from pipeline.errors import ConfigError, DataError, EnvironmentFault
from pipeline.graph.manifest import Manifest, read_manifest
from pipeline.graph.work import Artifact
from pipeline.huggingface import tokenizer_files
from pipeline.huggingface.architectures import ExportedModel, exported_model
from pipeline.huggingface.parity import ComparedText, Parity, compare, load_with_transformers
from pipeline.runtime.formatting import readable_count
from pipeline.runtime.progress import Progress
from pipeline.saved_models.model_files import WEIGHTS
from pipeline.saved_models.saved_model import SavedModel, sibling
from pipeline.saved_models.weights import load_model
from pipeline.tokens.tokenizer import TOKENIZER_FILE, Tokenizer, load_tokenizer

FALLBACK_CHARACTERS = 50_000  # enough for four digits of a loss, and seconds of work


class ExportResult(NamedTuple):
    """The class in `transformers` that was written, and how the two models compare."""

    architecture: str
    parity: Parity


def export(weights: Path, folder: Path, text: Path | None = None) -> ExportResult:
    """Write a trained model to a new folder as `transformers` stores one, with its tokenizer and a model card.

    `weights` is a weights file, a training stage's artifact or an import. Both models are compared on `text`, by
    default the run's validation text.

    Raises ConfigError if no architecture of `transformers` computes this model, DataError if a file of it is damaged,
    FolioError if the two differ. `folder` is not there then.
    """
    saved = SavedModel.of(weights)
    manifest = _checked(saved)
    model, tokenizer = load_model(saved.weights, saved.shape), load_tokenizer(saved.tokenizer)
    exported = exported_model(model, tokenizer.end_of_text)
    with published(folder) as draft:
        write_model(draft, exported)
        write_tokenizer(draft, saved.tokenizer, tokenizer, model.shape.context)
        # Read back from the disk: a wrong name in a file that was written is found, not only a wrong number.
        parity = compare(model, tokenizer, load_with_transformers(draft), text_for(saved, text), Progress("export"))
        parity.checked(f"The export of {saved.weights}")
        (draft / "README.md").write_text(model_card(exported, model, parity, manifest), encoding="utf-8")
    return ExportResult(exported.architecture, parity)


def _checked(saved: SavedModel) -> Manifest | None:
    """The manifest of the artifact that holds the weights, after every file matched its hash; None outside a store."""
    if saved.artifact is None:
        return None
    manifest = read_manifest(saved.artifact)
    Artifact(manifest.stage, saved.artifact, manifest).checked()
    Artifact("tokenizer", saved.tokenizer, read_manifest(saved.tokenizer)).checked()
    return manifest


@contextmanager
def published(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which becomes `folder` if the block ends without an error, and is removed otherwise.

    Raises ConfigError if `folder` holds something already, EnvironmentFault if its parents cannot be created.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already.", remedy="Give a folder that is new or empty.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(
            f"{folder.parent} cannot be created: {error.strerror}.", remedy="Give a DIR that can be written."
        ) from error
    # Beside `folder`, so that the last step is a rename within one file system.
    with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as around:
        draft = Path(around) / folder.name
        draft.mkdir()  # inside, because a temporary folder is readable for its owner alone
        yield draft
        draft.replace(folder)


def write_model(folder: Path, exported: ExportedModel) -> None:
    """Leave config.json, generation_config.json and model.safetensors."""
    ends = {name: exported.config[name] for name in ("bos_token_id", "eos_token_id")}
    _write_json(folder / "config.json", exported.config)
    # Without a token for padding `generate` warns at every call.
    _write_json(folder / "generation_config.json", {**ends, "pad_token_id": ends["eos_token_id"]})
    weights = folder / WEIGHTS  # `transformers` has the same name for them
    save_file(exported.state_dict, weights, metadata={"format": "pt"})  # transformers 4 needs this note
    weights.chmod(0o644)  # safetensors writes for the owner alone, unlike everything else here


def write_tokenizer(folder: Path, source: Path, tokenizer: Tokenizer, context: int) -> None:
    """Leave tokenizer.json and tokenizer_config.json; `source` is the folder that `tokenizer` was read from."""
    tokenizer_files.exported_tokenizer(source, tokenizer).save(str(folder / TOKENIZER_FILE))
    _write_json(folder / "tokenizer_config.json", tokenizer_files.tokenizer_config(context))


def text_for(saved: SavedModel, given: Path | None) -> ComparedText:
    """The text to compare on: the given file, the validation text in the same store, or one every installation has.

    Raises DataError if the given file is not a text.
    """
    if given is not None:
        return ComparedText(str(given), read_text(given))
    validation = _validation_text(saved)
    if validation is not None and validation.is_file():
        return ComparedText("the run's validation text", read_text(validation))
    return ComparedText(
        "Python's language reference (no validation text in reach)", language_reference()[:FALLBACK_CHARACTERS]
    )


def _validation_text(saved: SavedModel) -> Path | None:
    try:
        if saved.artifact is None:
            return None
        shards = sibling(saved.artifact, read_manifest(saved.artifact), "shards")
        return target_file(sibling(shards, read_manifest(shards), "target"), "validation")
    except DataError:  # somebody copied the artifact of the weights, and not those it was made from
        return None


def read_text(path: Path) -> str:
    """The content of a file given with --text. Raises DataError if it is empty or not UTF-8."""
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a readable UTF-8 text: {error}.", remedy="Give another --text.") from None
    if not text:
        raise DataError(f"{path} is empty.", remedy="Give another --text.")
    return text


def model_card(exported: ExportedModel, model: GPT, parity: Parity, manifest: Manifest | None) -> str:
    """The folder's README: what the model is, where it comes from, how it was checked, how to use it."""
    origin = "a folder that `folio import` wrote"
    if manifest is not None:
        origin = f"stage `{manifest.stage}` of run `{manifest.run}` ({manifest.fingerprint[:12]})"
        origin += f", made by Folio at commit `{manifest.git_commit}`"
    # llama.py writes one matrix of ours as two of theirs, so theirs has more parameters than the card says.
    doubled = exported.config.get("hidden_act") == "relu"
    squared = "\nIts squared ReLU is written as relu(gate) * up with the same matrix as gate and as up.\n"
    return f"""---
library_name: transformers
pipeline_tag: text-generation
---
A {exported.architecture} with {readable_count(num_parameters(model.shape))} parameters and a context of \
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

In training every document began with `<|endoftext|>`, the tokenizer's `bos_token_id`: put it before a text that begins
a document. The same characters inside a text are ordinary text.
"""


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
