"""Commands about trained models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    app.command()(sample)


def sample(
    checkpoint: Annotated[Path, typer.Argument(help="A .safetensors file, or the artifact of a training stage.")],
    prompt: Annotated[str, typer.Option(help="Text to go on from.")] = "",
    tokens: Annotated[int, typer.Option(min=1, help="How many tokens to add.")] = 300,
    temperature: Annotated[float, typer.Option(min=0, help="0 always takes the likeliest token.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(min=1, help="Only the k likeliest tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(min=0, max=1, help="Only the likeliest that hold this share.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same text.")] = 0,
) -> None:
    """Print text from a model.

    Example: folio sample artifacts/finetune-0123456789ab --prompt "ROMEO:"
    """
    import torch

    from pipeline.results.samples import continued, open_model

    model, tokenizer = open_model(checkpoint, "cuda" if torch.cuda.is_available() else "cpu")
    choices = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    typer.echo(continued(model, tokenizer, prompt, tokens, seed=seed, **choices))
