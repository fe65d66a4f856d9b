"""Arguments that several commands share, and how they become a config."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.addresses import without_secrets_in
from pipeline.runtime.processes import MOST_PROCESSES

if TYPE_CHECKING:
    from pipeline.config.schema import Config

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the run, such as configs/demo.yaml.")]
SetOptions = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Change one key for this call.")
]
RanksOption = Annotated[int | None, typer.Option(min=1, max=MOST_PROCESSES, help="Ranks on this machine.")]
HostfileOption = Annotated[Path | None, typer.Option(help="Lines of `host slots=N`: train on several machines.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def config_of(path: Path, settings: list[str] | None, ranks: int | None = None, hostfile: Path | None = None) -> Config:
    """The checked config with `--set`, `--ranks` and `--hostfile` laid over it."""
    from pipeline.config.loading import load_config

    config = load_config(path, settings or ())
    if ranks or hostfile:
        from pipeline.distributed.world import stand_alone

        # Whoever says here where the ranks come from does not mean those that a scheduler may have started. The
        # config's `launch` is no such word: it is the same file on a laptop and on a cluster.
        stand_alone()
    # typer has checked these already, so they are laid over without a second validation of the whole tree.
    changes = {"ranks": ranks, "hostfile": str(hostfile) if hostfile else None}
    launch = config.launch.model_copy(update={key: value for key, value in changes.items() if value is not None})
    return config.model_copy(update={"launch": launch})


def typed_command() -> str:
    """This process's command line as a page may show it, which is how it was made: without the secrets of addresses."""
    return without_secrets_in(shlex.join(["folio", *sys.argv[1:]]))
