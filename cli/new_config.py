"""`folio init`: a config that fits this machine, this text and this time."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.sizing.recipe import Wish

# Without a GPU: threads of one rank wait less for each other than ranks do, but not however many they are; and more
# ranks than this share a small batch badly.
CORES_OF_A_RANK, MOST_CPU_RANKS = 8, 8
UNNAMED = re.compile(r"[^A-Za-z0-9._-]+")


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(name="init")(init)


def init(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A text file, a hub dataset, or tiny-shakespeare.")],
    corpus: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH|URL|HUB", help="Text to pretrain on; may be given again."),
    ] = None,
    minutes: Annotated[float, typer.Option(min=1, help="How long the whole run may take.")] = 60,
    ranks: Annotated[
        int | None, typer.Option(min=1, help="Ranks on this machine; default one per GPU, or for 8 cores.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The YAML file to write.")] = None,
    force: Annotated[bool, typer.Option(help="Write over a file that exists.")] = False,
) -> None:
    """Write a config that fits this machine, text and time.

    Example: folio init my.txt --corpus 'texts/*.txt' --minutes 30 -o mine.yaml
    """
    from pipeline.graph.machines import this_machine
    from pipeline.runtime.files import write_text
    from pipeline.sizing.choice import choose, sizes_to_try
    from pipeline.sizing.run_forecast import run_seconds, speed, timed_machine
    from pipeline.sizing.summary import summary
    from pipeline.sizing.written_config import flow, yaml_text

    file = output or Path(f"{_run_name(target)}.yaml")
    if file.exists() and not force:
        raise ConfigError(f"{file} exists.", remedy="Give another name with -o, or --force.")
    if not file.parent.is_dir():
        raise ConfigError(f"There is no folder {file.parent} for {file.name}.", remedy="Make it, or give another -o.")
    wish, proposals = wish_of(target, corpus, minutes, ranks, file)
    typer.echo("timing models of several sizes on this machine ...", err=True)
    machine = this_machine()
    sizes = sizes_to_try(wish, lambda size: speed(machine, wish, size))
    choice = choose(wish, sizes, run_seconds(wish, timed_machine(machine, wish, sizes)))
    write_text(file, yaml_text(choice, wish, f"folio {shlex.join(sys.argv[1:])}", tuple(map(flow, proposals))))
    typer.echo("\n".join(summary(choice, wish, str(file))))


def wish_of(
    target: str, corpus: list[str] | None, minutes: float, ranks: int | None, file: Path
) -> tuple[Wish, tuple[dict[str, str], ...]]:
    """What the user asks for, and the sources to propose beside the first."""
    from pipeline.distributed.launch import default_ranks
    from pipeline.runtime.precision import default_device, has_bf16_units
    from pipeline.sizing.named_texts import proposed_sources, sources_named, target_named, texts_of
    from pipeline.sizing.recipe import Wish

    folder = file.parent
    section = target_named(target, folder)
    if corpus:
        sources = [source for text in corpus for source in sources_named(text, folder)]
    proposals: tuple[dict[str, str], ...] = ()
    if not corpus:
        sources, proposals = proposed_sources()
    device = default_device().type
    wish = Wish(
        name=_run_name(file.stem),
        minutes=minutes,
        ranks=ranks or (default_ranks() if device == "cuda" else cpu_ranks()),
        dtype="mixed" if has_bf16_units(device) else "fp32",
        texts=texts_of(section, sources, folder),
        target=section,
        sources=tuple(sources),
    )
    return wish, proposals


def cpu_ranks() -> int:
    """Ranks on a machine without a GPU."""
    from pipeline.runtime.processes import usable_cores

    return min(max(usable_cores() // CORES_OF_A_RANK, 1), MOST_CPU_RANKS)


def _run_name(text: str) -> str:
    """The file's name as the name of a run may be: letters, digits, dots, dashes."""
    return UNNAMED.sub("-", Path(text).stem).strip("-._") or "mine"
