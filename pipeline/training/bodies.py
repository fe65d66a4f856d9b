"""What each training stage does on every rank: pretraining on the corpus, and both arms on the target."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any, cast

from gpt.counts import num_parameters
from gpt.model import GPT, GPTShape
from pipeline.graph.config import Arm, Pretrain
from pipeline.graph.progress import Progress
from pipeline.tokens.batches import Batches
from pipeline.training.ground import Ground
from pipeline.training.job import Job
from pipeline.training.metrics import mean, read_metrics
from pipeline.training.recipe import Geometry, Recipe, pretraining_steps
from pipeline.training.run import LAST, Run, carry_out
from pipeline.training.state import State
from pipeline.training.trials import Result, Trial, discard, run_trials
from pipeline.training.validation import Windows
from pipeline.training.weights import load_weights, save_shape
from pipeline.training.world import World

WEIGHTS = "model.safetensors"
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
    run = Run(
        label=job.stage,
        section=section,
        deepspeed=job.slice["deepspeed"],
        recipe=Recipe.of(
            section,
            steps=pretraining_steps(section),
            peak=section.learning_rate,
            seed=section.seed,
            geometry=geometry,
        ),
        batches=Batches(ground.corpus(), batch_samples=geometry.batch_samples, seed=section.seed),
        windows=Windows.spread_over(validation, num_tokens=section.evaluate_tokens, context=context),
        folder=folder,
        metrics=folder,
        identity=ground.identity(world),
    )
    state = carry_out(run, GPT(ground.shape).initialize(section.seed), world, progress)
    if not world.leads:
        return {}
    (folder / LAST).replace(folder / WEIGHTS)
    save_shape(folder, ground.shape)
    return _pretrain_counts(run, ground.shape, state)


def train_arm(job: Job, world: World, progress: Progress) -> dict[str, Any]:
    """Train scratch or finetune on the target's training part; leaves the weights of the best learning rate's trials.

    The arms differ in where their weights start, and in nothing else. The target's validation part is never opened.
    """
    section, folder = cast(Arm, job.recipe), Path(job.folder)
    ground = Ground.of(job, dropout=section.dropout)
    geometry = Geometry.of(job.stage, section, context=ground.shape.context, world_size=world.world_size)
    target = ground.target()
    selection = Windows.covering(ground.stream("target/selection.arrow"), context=ground.shape.context)

    def carry_out_trial(trial: Trial, place: Path) -> None:
        rate, seed = trial.learning_rate, trial.seed
        recipe = Recipe.of(
            section, steps=section.max_steps, peak=rate, seed=seed, geometry=geometry, patience=section.patience
        )
        run = Run(
            label=f"{trial.name} ({_place_of(trial, section)})",
            section=section,
            deepspeed=job.slice["deepspeed"],
            recipe=recipe,
            batches=Batches(target, batch_samples=geometry.batch_samples, seed=seed),
            windows=selection,
            folder=place,
            metrics=folder,
            identity=ground.identity(world, learning_rate=rate, seed=seed),
            trial=trial.name,
        )
        state = carry_out(run, first_model(ground, seed), world, progress)
        if world.leads and state.best_step is not None:
            progress.say(f"{trial.name}: best {state.best_nats_per_token:.4f} nats/token at step {state.best_step:,}")

    grid, chosen = run_trials(folder, section.learning_rates, section.seeds, carry_out_trial)
    if not world.leads:
        return {}
    save_shape(folder, ground.shape)
    discard(folder, chosen[0]["learning_rate"])
    return _arm_counts(section, ground.shape, grid, chosen)


def first_model(ground: Ground, seed: int) -> GPT:
    """Where training starts: drawn from the seed, or for finetune what pretraining left, whatever the seed."""
    model = GPT(ground.shape)
    if ground.job.stage != "finetune":
        return model.initialize(seed)
    pretrained = ground.job.input("pretrain")
    load_weights(pretrained / WEIGHTS, model)
    return model


def _place_of(trial: Trial, section: Arm) -> str:
    """Where the trial stands among the arm's, as "2 of 5"."""
    rates, seeds = section.learning_rates, section.seeds
    first = trial.seed == seeds[0]
    place = rates.index(trial.learning_rate) if first else len(rates) + seeds.index(trial.seed) - 1
    return f"{place + 1} of {len(rates) + len(seeds) - 1}"


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
