"""Commands that ask questions beyond one run: ablate, lr-range and lecture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cli.arguments import AsJson, ConfigPath, RanksOption, SetOptions, config_of, typed_command
from cli.tables import print_table
from pipeline.errors import ConfigError

# The ladder's configs are those of the checkout that the command is called in: they are part of what it shows.
CONFIGS = Path("configs")


def add_to(app: typer.Typer) -> None:
    app.command()(ablate)
    app.command(name="lr-range")(lr_range)
    app.command()(lecture)


def ablate(
    config: ConfigPath,
    change: Annotated[
        list[str] | None,
        typer.Option(metavar="A.B=VALUE", help="Try this instead of the config's changes; may be repeated."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at a time, which share the cores.")] = 1,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the page goes; default the store.")] = None,
    settings: SetOptions = None,
    ranks: RanksOption = None,
    as_json: AsJson = False,
) -> None:
    """Compare single changes of a config at matched tokens and time.

    Trains every change and the baseline, with matched parameters, over the same seeds. Stopped and called again it
    goes on. Leaves ablation.md, ablation.png and ablation.json.

    Example: folio ablate configs/ablation.yaml --change model.activation=swiglu
    """
    from pipeline.experiments.ablation import page
    from pipeline.experiments.ablation.ablate import ablate as train_and_score
    from pipeline.experiments.ablation.changed_configs import with_changes_of_command_line
    from pipeline.experiments.ablation.effects import findings as findings_of
    from pipeline.graph.store import Store

    changed = with_changes_of_command_line(config_of(config, settings, ranks), change or [])
    ablation = train_and_score(changed, Store.from_environment(), jobs)
    findings, command = findings_of(ablation), typed_command()
    written = page.write(findings, out or ablation.folder, command)
    if as_json:
        typer.echo(json.dumps(list(page.records(findings, command)), indent=1))
        return
    rows = ([cell.replace("*", "") for cell in page.row(finding)] for finding in findings.changes)
    print_table(page.HEAD, rows, [page.headline(findings), page.baseline(findings)])
    typer.echo(str(written))


def lr_range(
    config: ConfigPath,
    stage: Annotated[str, typer.Option(help="pretrain, scratch or finetune.")] = "scratch",
    low: Annotated[float, typer.Option(min=0, help="First learning rate.")] = 1e-5,
    high: Annotated[float, typer.Option(min=0, max=10, help="Last learning rate.")] = 1.0,
    steps: Annotated[int, typer.Option(min=20, help="Steps in between.")] = 150,
    settings: SetOptions = None,
    ranks: RanksOption = None,
    as_json: AsJson = False,
) -> None:
    """Find learning rates worth a grid, in one short training.

    Its rate rises from --low to --high. The inputs of the stage must be finished. Nothing of the run changes; readings
    and picture go to the store.

    Example: folio lr-range configs/shakespeare-cpu.yaml --stage scratch
    """
    from pipeline.experiments.lr_range import suggestion
    from pipeline.graph.stages import nodes_of
    from pipeline.graph.store import Store

    checked = config_of(config, settings, ranks)
    # By the nodes of this run: without a corpus there is no pretrain, and imported weights are not trained.
    if stage not in (node.name for node in nodes_of(checked) if node.stage.trains):
        raise ConfigError(
            f"{stage!r} is not a training stage of {config}.", remedy="Give pretrain, scratch or finetune."
        )
    if not 0 < low < high:
        raise ConfigError(f"--low {low:g} and --high {high:g} do not span a range.", remedy="Give 0 < low < high.")
    store = Store.from_environment()
    rates = suggestion.find_rates(checked, stage, store, low=low, high=high, steps=steps)
    typer.echo(json.dumps(suggestion.as_json(rates)) if as_json else suggestion.as_text(rates, stage))
    if not as_json:
        typer.echo(str(rates.folder / "lr-range.png"))


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
    """Climb the lecture's ladder of models; compare its losses.

    Trains the rungs, from the bigram up, of configs/lecture/ on Tiny Shakespeare, by characters, one process per core.
    Stopped and called again it goes on. Leaves lecture.md, lecture.png and lecture.json.

    Example: folio lecture --rung bigram --rung one-head
    """
    from pipeline.experiments.ladder import lecture_experiment as experiment
    from pipeline.experiments.ladder.page import HEAD, headline, row
    from pipeline.graph.store import Store

    store = Store.from_environment()
    command = typed_command()
    result = experiment.climb_ladder(CONFIGS, store, rung or (), scales_up=scaled_up, command=command)
    page = experiment.write(result, out or store.root / "lecture")
    if as_json:
        typer.echo(json.dumps(list(experiment.figures(result)), indent=1))
        return
    print_table(HEAD, map(row, result.rungs), [headline(result.rungs)])
    for name, difference in result.differences.items():
        typer.echo(f"{name}: {difference:.1e}")
    typer.echo(str(page))
