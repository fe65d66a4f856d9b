"""Commands about trained models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    for command in (sample, export):
        app.command()(command)
    app.command(name="import")(import_)  # `import` is a keyword of Python


def sample(
    checkpoint: Annotated[Path, typer.Argument(help="A .safetensors file, or the artifact of a training stage.")],
    prompt: Annotated[str, typer.Option(help="Text to go on from.")] = "",
    tokens: Annotated[int, typer.Option(min=1, help="How many tokens to add.")] = 300,
    temperature: Annotated[float, typer.Option(min=0, max=1000, help="0 always takes the likeliest token.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(min=1, help="Only the k likeliest tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(min=0, max=1, help="Only the likeliest that hold this share.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="The same seed gives the same text.")] = 0,
) -> None:
    """Print text from a model.

    Example: folio sample artifacts/finetune-0123456789ab --prompt "ROMEO:"
    """
    from pipeline.runtime.precision import default_device
    from pipeline.saved_models.continue_text import continued
    from pipeline.saved_models.saved_model import open_model

    model, tokenizer = open_model(checkpoint, default_device().type)
    choices = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    typer.echo(continued(model, tokenizer, prompt, tokens, seed=seed, **choices))


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A .safetensors file, or the artifact of a training stage.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder to write.")],
    text: Annotated[Path | None, typer.Option(help="Compare on this text; default the run's validation text.")] = None,
) -> None:
    """Write a model in the Hugging Face layout, with its tokenizer.

    It becomes a GPT-2, a Llama or a Qwen3; a model that is none of them is refused. Before it is done, the folder is
    loaded with `transformers` and must give the same token ids, logits, greedy text and bits per byte.

    Example: folio export artifacts/finetune-0123456789ab shakespeare-model
    """
    from pipeline.huggingface.export import export as write
    from pipeline.runtime.files import environment_faults

    # The store has no part in this, so the usual remedy, another FOLIO_STORE, would mislead.
    with environment_faults(folder, remedy="Give a DIR that can be written."):
        exported = write(checkpoint, folder, text)
    typer.echo(f"{exported.parity.table()}\n{folder}: {exported.architecture}")


def import_(
    source: Annotated[Path, typer.Argument(metavar="FOLDER", help="GPT-2 as `transformers` saves it.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder to write.")],
    text: Annotated[Path | None, typer.Option(help="Compare on this text; default one that is installed.")] = None,
) -> None:
    """Read GPT-2's weights and tokenizer from a local folder.

    The new folder holds model.safetensors, model.json and tokenizer.json, and must give the logits that `transformers`
    gives before the command is done. To finetune GPT-2, name FOLDER itself as `pretrained` in a config.

    Example: folio import models/gpt2 imported
    """
    from pipeline.huggingface.import_gpt2 import import_folder
    from pipeline.runtime.files import environment_faults

    with environment_faults(folder, remedy="Give a DIR that can be written."):
        parity = import_folder(source, folder, text)
    typer.echo(f"{parity.table()}\n{folder}")
