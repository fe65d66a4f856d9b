"""The command that climbs the lecture's ladder."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.arguments import AsJson

if TYPE_CHECKING:
    from pipeline.experiments.ladder.climb import RungResult

CONFIGS = Path("configs")


def add_to(app: typer.Typer) -> None:
    app.command()(lecture)


def lecture(
    rung: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this rung; may be repeated.")] = None,
    scaled_up: Annotated[
        bool | None,
        typer.Option(
            help="The last rung, configs/lecture.yaml; by default with a GPU and all others.", show_default=False
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the page goes; default the store.")] = None,
    as_json: AsJson = False,
) -> None:
    """Climb the lecture's ladder, from the bigram up; compare with its numbers.

    Trains the rungs of configs/lecture/ on Tiny Shakespeare, by characters, one process per core. Stopped and called
    again it goes on. Leaves lecture.md, lecture.png and lecture.json.

    Example: folio lecture --rung bigram --rung one-head
    """
    from pipeline.experiments.ladder import lecture_experiment as experiment
    from pipeline.graph.store import Store

    store = Store.from_environment()
    command = shlex.join(["folio", *sys.argv[1:]])
    found = experiment.run(CONFIGS, store, rung or (), scales_up=scaled_up, command=command)
    page = experiment.write(found, out or store.root / "lecture")
    if as_json:
        typer.echo(json.dumps(list(experiment.figures(found)), indent=1))
        return
    _print_table(found.results)
    for name, difference in found.differences.items():
        typer.echo(f"{name}: {difference:.1e}")
    typer.echo(str(page))


def _print_table(results: list[RungResult]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from pipeline.experiments.ladder.page import HEAD, headline, row

    table = Table(box=SIMPLE_HEAD, caption=headline(results), caption_justify="left")
    for name in HEAD:
        table.add_column(name, justify="left" if name == HEAD[0] else "right")
    for result in results:
        table.add_row(*row(result))
    Console(width=120, highlight=False, markup=False).print(table)
