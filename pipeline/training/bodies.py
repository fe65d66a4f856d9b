"""What each training stage does on every rank: pretraining on the corpus, and both arms on the target."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, cast

from gpt.counts import num_parameters
from gpt.model import GPT, GPTShape
from pipeline.graph.config import Arm, Pretrain
from pipeline.graph.progress import Progress
from pipeline.tokens.batches import Batches
from pipeline.training.checkpoints import checkpoints_in, lend, step_name
from pipeline.training.ground import Ground
from pipeline.training.job import Job
from pipeline.training.metrics import mean, read_metrics
from pipeline.training.ranks import from_leader
from pipeline.training.recipe import Branch, Geometry, Recipe, branches_of, pretraining_steps
from pipeline.training.run import CHECKPOINTS, LAST, Run, carry_out
from pipeline.training.state import State
from pipeline.training.trials import Result, Trial, discard, run_trials
from pipeline.training.validation import Windows
from pipeline.training.weights import load_weights, save_shape
from pipeline.training.world import World

WEIGHTS = "model.safetensors"
BRANCHES = "branches"
TAIL = 0.05  # share of the steps whose mean training loss is reported


def train_stage(job: Job, world: World, progress: Progress) -> dict[str, Any]:
    """Run the job's stage on this rank; the counts for its manifest, complete on rank 0. Collective."""
    return (pretrain if job.stage == "pretrain" else train_arm)(job, world, progress)


def pretrain(job: Job, world: World, progress: Progress) -> dict[str, Any]:
    """Train on the corpus; leaves model.safetensors and model.json."""
    section, folder, ground = cast(Pretrain, job.recipe), Path(job.folder), Ground.of(job)
    context = ground.shape.context
    geometry = Geometry.of(job.stage, section, context=context, world_size=world.world_size)
    validation = ground.stream("corpus/validation-*.arrow")
    branches = branches_of(section)
    recipe = Recipe.of(
        section, steps=pretraining_steps(section), peak=section.learning_rate, seed=section.seed, geometry=geometry
    )
    run = Run(
        label=job.stage,
        section=section,
        deepspeed=job.slice["deepspeed"],
        recipe=replace(recipe, forks=frozenset(branch.fork for branch in branches)),
        batches=Batches(ground.corpus(), batch_samples=geometry.batch_samples, seed=section.seed),
        windows=Windows.spread_over(validation, num_tokens=section.evaluate_tokens, context=context),
        folder=folder,
        metrics=folder,
        identity=ground.identity(world),
    )
    state = carry_out(run, GPT(ground.shape).initialize(section.seed), world, progress)
    ends = [_bring_to_end(branch, run, section, GPT(ground.shape), world, progress) for branch in branches]
    if not world.leads:
        return {}
    (folder / LAST).replace(folder / WEIGHTS)
    save_shape(folder, ground.shape)
    return _pretrain_counts(run, ground.shape, state) | ({"branches": ends} if ends else {})


def _bring_to_end(
    branch: Branch, run: Run, section: Pretrain, model: GPT, world: World, progress: Progress
) -> dict[str, Any]:
    """Decay from the branch's fork to its end; leaves branches/<name>/model.safetensors, returns what it reached.

    With a warmup of as many steps these are the weights of a pretraining that was to have so many steps from the start.
    """
    folder = run.folder / BRANCHES / branch.name
    if not from_leader((folder / WEIGHTS).exists()):
        if world.leads and not checkpoints_in(folder / CHECKPOINTS):
            lend(run.folder / CHECKPOINTS / step_name(branch.fork), folder / CHECKPOINTS)
        from_leader(None)  # all wait for it
        recipe = run.recipe.branched(branch, section.decay)
        label = f"branch to step {branch.step:,}"
        carry_out(replace(run, label=label, recipe=recipe, folder=folder, metrics=folder), model, world, progress)
        if world.leads:
            shutil.rmtree(folder / CHECKPOINTS)
            (folder / LAST).replace(folder / WEIGHTS)
    return _branch_counts(branch, folder) if world.leads else {}


def train_arm(job: Job, world: World, progress: Progress) -> dict[str, Any]:
    """Train scratch or finetune on the target's training part; leaves the weights of the best learning rate's trials.

    The arms differ in where their weights start, and in nothing else. The target's validation part is never opened.
    """
    section, folder = cast(Arm, job.recipe), Path(job.folder)
    ground = Ground.of(job, dropout=section.dropout)
    geometry = Geometry.of(job.stage, section, context=ground.shape.context, world_size=world.world_size)
    target = ground.target()
    selection = Windows.covering(ground.stream("target/selection.arrow"), context=ground.shape.context)

    def carry_out_trial(trial: Trial, place: Path, arm: Path = folder, start: Path | None = None) -> None:
        rate, seed = trial.learning_rate, trial.seed
        recipe = Recipe.of(
            section, steps=section.max_steps, peak=rate, seed=seed, geometry=geometry, patience=section.patience
        )
        run = Run(
            label=f"{trial.name} ({_place_of(trial, section) if arm == folder else arm.name})",
            section=section,
            deepspeed=job.slice["deepspeed"],
            recipe=recipe,
            batches=Batches(target, batch_samples=geometry.batch_samples, seed=seed),
            windows=selection,
            folder=place,
            metrics=arm,
            identity=ground.identity(world, learning_rate=rate, seed=seed),
            trial=trial.name,
        )
        state = carry_out(run, first_model(ground, seed, start), world, progress)
        if world.leads and state.best_step is not None:
            progress.say(f"{trial.name}: best {state.best_nats_per_token:.4f} nats/token at step {state.best_step:,}")

    grid, chosen = run_trials(folder, section.learning_rates, section.seeds, carry_out_trial)
    branches = _branch_trials(job, section, carry_out_trial)
    if not world.leads:
        return {}
    save_shape(folder, ground.shape)
    for arm, _, best in [(folder, grid, chosen), *branches]:
        discard(arm, best[0]["learning_rate"])
    curve = [{"branch": arm.name, **_arm_counts(section, ground.shape, *results)} for arm, *results in branches]
    return _arm_counts(section, ground.shape, grid, chosen) | ({"branches": curve} if curve else {})


def _branch_trials(
    job: Job, section: Arm, carry_out_trial: Callable[..., None]
) -> list[tuple[Path, list[Result], list[Result]]]:
    """The folder, the grid's results and the best one of each branch of pretraining; nothing for scratch.

    The whole grid, because less pretraining may want another rate, and one seed.
    """
    found = []
    for start in _branch_weights(job):
        arm = Path(job.folder) / BRANCHES / start.parent.name
        carry_out_branch = partial(carry_out_trial, arm=arm, start=start)
        found.append((arm, *run_trials(arm, section.learning_rates, section.seeds[:1], carry_out_branch)))
    return found


def first_model(ground: Ground, seed: int, start: Path | None = None) -> GPT:
    """Where training starts: drawn from the seed, or for finetune what pretraining left, whatever the seed."""
    model = GPT(ground.shape)
    if ground.job.stage != "finetune":
        return model.initialize(seed)
    load_weights(start or ground.job.input("pretrain") / WEIGHTS, model)
    return model


def _branch_weights(job: Job) -> list[Path]:
    """What pretraining left at its branches, in the order of their steps; nothing for scratch."""
    if job.stage != "finetune":
        return []
    return sorted(job.input("pretrain").glob(f"{BRANCHES}/step-*/{WEIGHTS}"))


def _place_of(trial: Trial, section: Arm) -> str:
    """Where the trial stands among the arm's, as "2 of 5"."""
    rates, seeds = section.learning_rates, section.seeds
    first = trial.seed == seeds[0]
    place = rates.index(trial.learning_rate) if first else len(rates) + seeds.index(trial.seed) - 1
    return f"{place + 1} of {len(rates) + len(seeds) - 1}"


def _branch_counts(branch: Branch, folder: Path) -> dict[str, Any]:
    evaluated = [line for line in read_metrics(folder) if "evaluation_nats_per_token" in line]
    last = evaluated[-1]
    return {
        "branch": branch.name,
        "steps": branch.step,
        "tokens": last["tokens"],
        "val_nats_per_token": last["evaluation_nats_per_token"],
    }


def _pretrain_counts(run: Run, shape: GPTShape, state: State) -> dict[str, Any]:
    lines = read_metrics(run.metrics)
    steps = [line for line in lines if "seconds" in line]
    tail = steps[-max(round(TAIL * len(steps)), 1) :]
    evaluations = [line["evaluation_nats_per_token"] for line in lines if "evaluation_nats_per_token" in line]
    return {
        "tokens": state.tokens,
        "steps": state.step,
        "batch_tokens": run.section.batch_tokens,
        "train_nats_per_token": mean([line["train_nats_per_token"] for line in tail if not line.get("skipped")]),
        "val_nats_per_token": evaluations[-1],
        "tokens_per_second": median(line["tokens_per_second"] for line in steps),
        "skipped_steps": state.skipped,
        "parameters": num_parameters(shape),
    }


def _arm_counts(section: Arm, shape: GPTShape, grid: list[Result], chosen: list[Result]) -> dict[str, Any]:
    trials = [*grid, *chosen[1:]]
    summary = ("learning_rate", "seed", "best_selection_nats_per_token", "best_step", "steps", "diverged")
    return {
        "learning_rate": chosen[0]["learning_rate"],
        "grid": [{key: result[key] for key in summary} for result in grid],
        "seeds": list(section.seeds),
        "trials": [{key: result[key] for key in summary} for result in chosen],
        "tokens": sum(result["tokens"] for result in trials),
        "tokens_per_second": median(result["tokens_per_second"] for result in trials),
        "parameters": num_parameters(shape),
    }
