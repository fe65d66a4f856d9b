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

    A line has the folder, whose name is the step, tokens, loss, ranks and size; or what is wrong, as far as the receipt
    tells. `verify` reads the files, too.

    Example: folio checkpoint list artifacts/pretrain-0123456789ab
    """
    from pipeline.runtime.formatting import counted, readable_bytes, readable_count
    from pipeline.training.checkpoint_files import receipt_or_reason

    for folder in _checkpoints_below(path):
        receipt, reason = receipt_or_reason(folder)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        # One object a line, so that it can be cut and filtered like the text.
        if as_json:
            known = receipt.model_dump(exclude={"files"}) if receipt else {}
            typer.echo(
                json.dumps({"path": str(folder), "bytes": size, **known} | ({"damage": reason} if reason else {}))
            )
            continue
        facts = [readable_bytes(size)]
        if receipt:
            loss = [] if receipt.nats_per_token is None else [f"{receipt.nats_per_token:.4f} nats/token"]
            facts = [f"{readable_count(receipt.tokens)} tokens", *loss, counted(receipt.ranks, "rank"), *facts]
            facts += ["best on held-out text"] if receipt.is_best else []
        typer.echo("  ".join([str(folder), *facts, *([f"DAMAGED: {reason}"] if reason else [])]))


@app.command()
def verify(path: CheckpointsPath) -> None:
    """Hash every file of the checkpoints below a path again.

    Example: folio checkpoint verify artifacts/pretrain-0123456789ab
    """
    from pipeline.graph.manifest import damaged_files
    from pipeline.runtime.formatting import counted, readable_bytes
    from pipeline.training.checkpoint_files import receipt_or_reason

    damaged = []
    for folder in _checkpoints_below(path):
        receipt, reason = receipt_or_reason(folder)
        files = receipt.files if receipt else ()
        # Collected, not raised: the first damaged file must not hide the others.
        faults = [*([reason] if reason else []), *damaged_files(folder, files)]
        damaged += [f"{folder}: {fault}" for fault in faults]
        size = f"{counted(len(files), 'file')}  {readable_bytes(sum(entry.bytes for entry in files))}"
        typer.echo(f"{folder}  DAMAGED: {'; '.join(faults)}" if faults else f"{folder}  ok  {size}")
    if damaged:
        raise DataError("; ".join(damaged) + ".", remedy="Resuming skips it and takes the newest valid one.")


@app.command()
def convert(
    path: CheckpointsPath,
    ranks: Annotated[int, typer.Option(min=1, help="Ranks that training will go on with.")],
) -> None:
    """Divide a checkpoint among another number of ranks.

    Training does so by itself when it goes on; this is for doing it beforehand. Of several checkpoints below PATH the
    newest is converted.

    Example: folio checkpoint convert artifacts/pretrain-0123456789ab --ranks 4
    """
    from pipeline.runtime.formatting import counted
    from pipeline.training import reshard
    from pipeline.training.checkpoint_files import read_receipt

    # The newest is the one that a training resumes from.
    newest = _checkpoints_below(path)[-1]
    before = read_receipt(newest).ranks
    if before != ranks:
        reshard.convert(newest, ranks)
    change = f"is for {counted(ranks, 'rank')} already" if before == ranks else f"{before} -> {counted(ranks, 'rank')}"
    typer.echo(f"{newest}  {change}")


@app.command()
def prune(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A store, or the folder of a training stage.")],
    yes: Annotated[bool, typer.Option("--yes", help="Remove it.")] = False,
) -> None:
    """Show what nobody needs any more; remove it with --yes.

    That is what killed saves and old conversions left, and finished trainings that the newest report of their run does
    not read. What a running stage writes, and what is not finished, stays.

    Example: folio checkpoint prune artifacts
    """
    from pipeline.runtime.formatting import readable_bytes
    from pipeline.training.prunable import prunable

    found = prunable(path)
    for one in found:
        typer.echo(f"{one.folder}  {readable_bytes(one.bytes)}  {one.reason}")
        if yes:
            one.remove()
    total = readable_bytes(sum(one.bytes for one in found))
    typer.echo(f"{total} removed." if yes else f"{total} can go: --yes removes it." if found else "Nothing can go.")


def _checkpoints_below(path: Path) -> list[Path]:
    """The checkpoint itself, or those of a training artifact or of its checkpoints folder, in the order of steps.

    Raises DataError if there are none.
    """
    from pipeline.saved_models.model_files import CHECKPOINTS, TRIALS
    from pipeline.training.checkpoint_files import RECEIPT, checkpoints_in

    if (path / RECEIPT).exists():
        return [path]
    # A pretraining has one folder of checkpoints; an arm has one in each trial that is under way.
    folders = [path, path / CHECKPOINTS, *sorted(path.glob(f"{TRIALS}/*/{CHECKPOINTS}"))]
    checkpoints = [checkpoint for folder in folders for checkpoint in checkpoints_in(folder)]
    if not checkpoints:
        raise DataError(f"{path} holds no checkpoints.", remedy="Give the folder of a training stage.")
    return checkpoints
