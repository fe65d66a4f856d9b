"""Commands that ask more than one run can answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.arguments import ConfigPath, Ranks, Settings, config_of


def add_to(app: typer.Typer) -> None:
    app.command()(ablate)


def ablate(
    config: ConfigPath,
    change: Annotated[
        list[str] | None, typer.Option(metavar="A.B=VALUE", help="Try this change; repeatable. Default: the config's.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the page goes; default the store.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at a time, which share the cores.")] = 1,
    settings: Settings = None,
    ranks: Ranks = None,
) -> None:
    """Compare changed features with the baseline: does one more help (EX4)?

    Example: folio ablate configs/ablation.yaml --change model.activation=swiglu
    """
    from pipeline.experiments.ablation import ablate as train
    from pipeline.experiments.findings import findings
    from pipeline.graph.store import Store

    checked = config_of(config, settings, ranks)
    found = findings(train(checked, Store.from_environment(), jobs))
    for one in found.changes:
        typer.echo(f"{one.name}: {one.by_tokens.bits_per_byte.mean:+.4f} {one.by_time.bits_per_byte.mean:+.4f}")
