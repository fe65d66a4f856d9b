"""Commands about a whole run: run, plan, status, verify, and one command per stage."""

from __future__ import annotations

import json
import signal
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.arguments import AsJson, ConfigPath, HostfileOption, RanksOption, SetOptions, config_of
from pipeline.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pipeline.config.schema import Config, LaunchSection
    from pipeline.graph.runner import Selection
    from pipeline.graph.store import Store
    from pipeline.graph.work import Artifact, RankPool

MOST_MINUTES = 366 * 24 * 60
# The stages in their order. Here and not beside them: what a command says of itself is the program's business, must fit
# its help, and is needed for `folio --help`, which should not wait for the config's classes.
SUMMARIES = {
    "target": "Get the target text and split it.",
    "corpus": "Stream, clean, deduplicate and decontaminate the corpus.",
    "tokenizer": "Train the tokenizer.",
    "shards": "Encode corpus and target into Arrow token shards.",
    "pretrain": "Pretrain the model on the corpus.",
    "scratch": "Train the control: the same model on the target alone.",
    "finetune": "Finetune the pretrained model on the target.",
    "report": "Score every arm on the validation text and write the report.",
}


def add_to(app: typer.Typer) -> None:
    """Register the commands, in the order that `--help` lists them."""
    for command in (run, plan, status, verify):
        app.command()(command)
    for stage in SUMMARIES:
        app.command(name=stage, help=_stage_help(stage))(_stage_command(stage))


def run(
    config: ConfigPath,
    first: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="Start here; earlier stages must be done.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="STAGE", help="Stop after this stage.")] = None,
    only: Annotated[str | None, typer.Option(metavar="STAGE", help="Just this stage.")] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, max=MOST_MINUTES, help="Save and stop (exit 75) after so long.")
    ] = None,
    settings: SetOptions = None,
    ranks: RanksOption = None,
    hostfile: HostfileOption = None,
) -> None:
    """Do the whole chain; finished stages are skipped.

    Example: folio run configs/demo.yaml --until shards
    """
    if minutes:
        signal.setitimer(signal.ITIMER_REAL, minutes * 60)  # SIGALRM is one of the stop signals
    checked = config_of(config, settings, ranks, hostfile)
    # Stages of the run alone: what it is compared with (leak, rivals, sizes) is done with its report.
    beginning, *_, end = SUMMARIES
    _finish_stages(checked, _known(only or first or beginning), _known(only or until or end))


def plan(
    config: ConfigPath,
    settings: SetOptions = None,
    ranks: RanksOption = None,
    hostfile: HostfileOption = None,
    on: Annotated[
        str | None, typer.Option(metavar="MACHINE", help="For another machine: h100x8, h200x1, a100x8, cpu:64.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what would run, why, and whether it fits.

    Touches nothing. Seconds are an upper bound where patience may end an arm.

    Example: folio plan configs/shakespeare-cpu.yaml --ranks 2
    """
    from pipeline.distributed.launch import num_ranks
    from pipeline.graph import plan as planning
    from pipeline.graph.fingerprints import fingerprints
    from pipeline.graph.machines import named_machine, named_ranks
    from pipeline.graph.runner import Selection, unfinished
    from pipeline.graph.stage_counts import ShardsCounts
    from pipeline.graph.store import Store
    from pipeline.inputs.outside import look_outside
    from pipeline.training.preflight import refuse_impossible

    checked, store = config_of(config, settings, ranks, hostfile), Store.from_environment()
    outside = look_outside(checked)
    machine = named_machine(on) if on else None
    num = named_ranks(machine, ranks) if machine else num_ranks(checked.launch)
    shards = store.finished("shards", fingerprints(checked, outside)["shards"])
    counts = shards.counts_as(ShardsCounts) if shards else None
    # As `run` would refuse it: a plan for what cannot be done would be a promise.
    refuse_impossible(checked, unfinished(checked, store, Selection(), outside), num, counts)
    run_plan = planning.plan(checked, store, num, outside, machine)
    typer.echo(json.dumps(run_plan.as_json(), indent=1) if as_json else run_plan.as_text())


def status(config: ConfigPath, settings: SetOptions = None, as_json: AsJson = False) -> None:
    """Show each stage's state, with live progress.

    Example: folio status configs/demo.yaml
    """
    from pipeline.graph.status import as_text, states
    from pipeline.graph.store import Store
    from pipeline.inputs.outside import look_outside

    checked = config_of(config, settings)
    outside = look_outside(checked)
    for key, fault in outside.faults.items():
        typer.echo(f"{key}: {fault}", err=True)
    stages = states(checked, Store.from_environment(), outside)
    typer.echo(json.dumps([stage.as_json() for stage in stages], indent=1) if as_json else as_text(stages))


def verify(
    config: ConfigPath,
    settings: SetOptions = None,
    quick: Annotated[bool, typer.Option(help="Compare sizes only.")] = False,
) -> None:
    """Hash every artifact again; name damaged files.

    Example: folio verify configs/demo.yaml
    """
    from pipeline.graph.manifest import damaged_files
    from pipeline.graph.runner import finished
    from pipeline.graph.store import Store
    from pipeline.runtime.formatting import counted

    damaged, artifacts = [], finished(config_of(config, settings), Store.from_environment())
    width = max(map(len, artifacts), default=0)
    for name, artifact in artifacts.items():
        # Everything is hashed before anything is raised: an operator wants one list, not one file a call.
        faults = damaged_files(artifact.folder, artifact.manifest.files, quick=quick)
        damaged += [f"{artifact.folder}/{fault}" for fault in faults]
        files = counted(len(artifact.manifest.files), "file")
        typer.echo(f"{name:>{width}}  {'DAMAGED' if faults else 'ok'}  {files}  {artifact.folder}")
    if damaged:
        raise DataError("; ".join(damaged) + ".", remedy="Delete the damaged folder and run its stage again.")
    if not artifacts:
        raise DataError(f"No stage of {config} is finished.", remedy="`folio run CONFIG` does the whole chain.")


def _stage_command(name: str) -> Any:
    """The command that does one stage. Its signature is what typer reads the options from."""

    def command(
        config: ConfigPath, settings: SetOptions = None, ranks: RanksOption = None, hostfile: HostfileOption = None
    ) -> None:
        _finish_stages(config_of(config, settings, ranks, hostfile), name, name)

    return command


def _stage_help(name: str) -> str:
    # A line of its own: typer fills paragraphs, and the summary must stand whole in the first line.
    return f"{SUMMARIES[name]}\n\nIts inputs must be finished.\n\nExample: folio {name} configs/demo.yaml"


def _finish_stages(config: Config, first: str, last: str) -> None:
    """Do what is unfinished from stage `first` to stage `last`, and name the result on stdout."""
    from pipeline.graph.runner import Selection
    from pipeline.graph.store import Store

    with _ranks_of_launcher(config.launch) as ranks:
        artifacts = _run_if_possible(config, Store.from_environment(), Selection(first, last), ranks)
    # Nothing to name: a run without a corpus has no stage pretrain, for example.
    if last in artifacts:
        typer.echo(_result(artifacts[last].folder, last))


def _ranks_of_launcher(launch: LaunchSection) -> AbstractContextManager[RankPool | None]:
    """The ranks that torchrun, deepspeed or srun started, if they did; None if training starts its own.

    Only rank 0 enters the block: the other processes wait in here for its training jobs, and end with it.
    """
    from pipeline.distributed.world import in_external_world

    if not in_external_world():
        return nullcontext()
    from pipeline.distributed.external_launcher import external_ranks

    return external_ranks(launch)


def _run_if_possible(config: Config, store: Store, selection: Selection, ranks: RankPool | None) -> dict[str, Artifact]:
    """Run the selected stages, after what their settings alone rule out was refused."""
    from pipeline.graph.runner import Selection, run_nodes, unfinished
    from pipeline.graph.stage_counts import ShardsCounts
    from pipeline.inputs.outside import look_outside

    outside = look_outside(config)
    outside.refuse_unknown()
    for note in outside.notes:
        typer.echo(note, err=True)
    ahead = unfinished(config, store, selection, outside)
    # Before the first stage, not before training: hours of building a corpus may lie in between.
    if any(stage.trains for stage in ahead):
        from pipeline.distributed.launch import num_ranks
        from pipeline.training.preflight import refuse_impossible

        num = num_ranks(config.launch)
        refuse_impossible(config, ahead, num)
        # Once more when the text has been counted: hours of pretraining may lie before the arm that cannot be trained.
        text = run_nodes(config, store, Selection(selection.first, "shards"), ranks, outside)
        if "shards" in text:
            refuse_impossible(config, ahead, num, text["shards"].counts_as(ShardsCounts))
    return run_nodes(config, store, selection, ranks, outside)


def _result(folder: Path, stage: str) -> str:
    """What the last line of a run names: the report's page, or the folder of the stage."""
    return str(folder / "report.html") if stage == "report" else str(folder)


def _known(stage: str) -> str:
    if stage not in SUMMARIES:
        raise ConfigError(f"{stage!r} is not a stage.", remedy=f"Stages are {', '.join(SUMMARIES)}.")
    return stage
