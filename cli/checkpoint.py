"""Commands about sharded checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cli.arguments import AsJson
from pipeline.errors import DataError

app = typer.Typer(help="Look at sharded checkpoints.", no_args_is_help=True)
CheckpointsPath = Annotated[
    Path, typer.Argument(metavar="PATH", help="A training artifact, its checkpoints/ folder, or one step-… of it.")
]


@app.command(name="list")
def list_checkpoints(path: CheckpointsPath, as_json: AsJson = False) -> None:
    """List the checkpoints below a path, oldest first.

    A line has the folder, whose name is the step, and tokens, loss, ranks and size.

    Example: folio checkpoint list artifacts/pretrain-0123456789ab
    """
    from pipeline.runtime.formatting import counted, readable_bytes, readable_count
    from pipeline.training.checkpoints import read_receipt

    for folder in _checkpoints_below(path):
        receipt = read_receipt(folder)
        size = sum(entry.bytes for entry in receipt.files)
        # One object a line, so that it can be cut and filtered like the text.
        if as_json:
            typer.echo(json.dumps({"path": str(folder), "bytes": size, **receipt.model_dump(exclude={"files"})}))
            continue
        loss = "" if receipt.nats_per_token is None else f"{receipt.nats_per_token:.4f} nats/token  "
        ranks = counted(receipt.identity["world_size"], "rank")
        typer.echo(f"{folder}  {readable_count(receipt.tokens)} tokens  {loss}{ranks}  {readable_bytes(size)}")


@app.command()
def verify(path: CheckpointsPath) -> None:
    """Hash every file of the checkpoints below a path again.

    Example: folio checkpoint verify artifacts/pretrain-0123456789ab
    """
    from pipeline.graph.manifest import damaged_files
    from pipeline.training.checkpoints import read_receipt

    damaged = []
    for folder in _checkpoints_below(path):
        faults = damaged_files(folder, read_receipt(folder).files)
        # Collected, not raised: the first damaged file must not hide the others.
        damaged += [f"{folder}/{fault}" for fault in faults]
        typer.echo(f"{folder}  {'DAMAGED' if faults else 'ok'}")
    if damaged:
        raise DataError("; ".join(damaged) + ".", remedy="Resuming skips it and takes the newest valid one.")


@app.command()
def convert(
    path: CheckpointsPath,
    ranks: Annotated[int, typer.Option(min=1, help="Ranks that training will go on with.")],
) -> None:
    """Convert a checkpoint to another number of ranks.

    Of several checkpoints below PATH the newest is converted. The original is put aside; the command that trained then
    goes on with --ranks N.

    Example: folio checkpoint convert artifacts/pretrain-0123456789ab --ranks 4
    """
    from pipeline.runtime.formatting import counted
    from pipeline.training import reshard

    # The newest is the one that a training resumes from.
    newest = _checkpoints_below(path)[-1]
    aside = reshard.convert(newest, ranks)
    typer.echo(f"{newest} is for {counted(ranks, 'rank')} now; the original is {aside}")


def _checkpoints_below(path: Path) -> list[Path]:
    """The checkpoint itself, or those of a training artifact or of its checkpoints folder, in the order of steps.

    Raises DataError if there are none.
    """
    from pipeline.saved_models.model_files import CHECKPOINTS, TRIALS
    from pipeline.training.checkpoints import RECEIPT, checkpoints_in

    if (path / RECEIPT).exists():
        return [path]
    # A pretraining has one folder of checkpoints; an arm has one in each trial that is under way.
    folders = [path, path / CHECKPOINTS, *sorted(path.glob(f"{TRIALS}/*/{CHECKPOINTS}"))]
    checkpoints = [checkpoint for folder in folders for checkpoint in checkpoints_in(folder)]
    if not checkpoints:
        raise DataError(f"{path} holds no checkpoints.", remedy="Give the folder of a training stage.")
    return checkpoints
