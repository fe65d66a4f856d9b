"""Commands about the data of a run."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from cli.arguments import AsJson, ConfigPath, SetOptions, config_of
from pipeline.errors import ConfigError

app = typer.Typer(help="Look at the data of a run.", no_args_is_help=True)
SHOWN_CHARACTERS = 60


@app.callback()
def _group() -> None:
    """Look at the data of a run."""
    # Without a callback typer makes the only command of a group the group itself: `folio data`, not `folio data show`.


@app.command()
def show(
    config: ConfigPath,
    step: Annotated[int, typer.Option(min=0, help="Step of pretraining, from 0.")],
    rank: Annotated[int | None, typer.Option(min=0, help="Only this rank's samples.")] = None,
    text: Annotated[bool, typer.Option(help="Print the whole text of each span.")] = False,
    settings: SetOptions = None,
    as_json: AsJson = False,
) -> None:
    """Name the documents that a step of pretraining trained on.

    A line is one span: its rank and sample, source, document[first token:last token + 1], and how its text begins.

    Example: folio data show configs/demo.yaml --step 100 --rank 0
    """
    from pipeline.distributed.launch import num_ranks
    from pipeline.graph.fingerprints import fingerprints
    from pipeline.graph.stage_counts import StageCounts
    from pipeline.graph.store import Store
    from pipeline.graph.variants import has_corpus
    from pipeline.training.documents_of_step import spans_of_step

    checked = config_of(config, settings)
    if not has_corpus(checked):
        raise ConfigError(f"{config} has no corpus, so nothing is pretrained here.", remedy="Give corpus.sources.")
    store = Store.from_environment()
    fingerprint = fingerprints(checked)["pretrain"]
    finished = store.finished("pretrain", fingerprint)
    # Which rank got a sample depends on how many there were; before the end only the config can tell.
    ranks = finished.counts_as(StageCounts).world_size if finished else num_ranks(checked.launch)
    for span in spans_of_step(store.folder("pretrain", fingerprint), step, ranks):
        if rank is not None and span.rank != rank:
            continue
        shown = span.text if text else " ".join(span.text.split())[:SHOWN_CHARACTERS]
        where = (
            f"rank {span.rank}  sample {span.sample:>3}  {span.source}  {span.document}[{span.first}:{span.last + 1}]"
        )
        typer.echo(json.dumps({**asdict(span), "text": shown}) if as_json else f"{where}  {shown!r}")
