"""What each training stage does on every rank: pretraining on the corpus, and both arms on the target."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, cast

from gpt.counts import num_parameters
from gpt.model import GPT, GPTShape
from pipeline.config.schema import ArmSection
from pipeline.distributed.job import Job
from pipeline.distributed.world import World
from pipeline.runtime.progress import Progress
from pipeline.saved_models.model_files import BRANCHES, WEIGHTS
from pipeline.saved_models.weights import load_weights, save_shape
from pipeline.tokens.batches import Batches
from pipeline.tokens.scoring_windows import ScoringWindows
from pipeline.training.fit import TrainingSpec, train_to_end
from pipeline.training.inputs import TrainingInputs
from pipeline.training.training_plan import BatchGeometry, TrainingPlan
from pipeline.training.trials import Trial, TrialResult, discard, run_trials


def train_arm(job: Job, world: World, progress: Progress) -> dict[str, Any]:
    """Train scratch or finetune on the target's training part; leaves the weights of the best learning rate's trials.

    The arms differ in where their weights start, and in nothing else. The target's validation part is never opened.
    """
    section, folder = cast(ArmSection, job.section), Path(job.folder)
    ground = TrainingInputs.of(job, dropout=section.dropout)
    geometry = BatchGeometry.of(job.stage, section, context=ground.shape.context, world_size=world.world_size)
    target = ground.target()
    selection = ScoringWindows.covering(ground.stream("target/selection.arrow"), context=ground.shape.context)

    def carry_out_trial(trial: Trial, place: Path, arm: Path = folder, start: Path | None = None) -> None:
        rate, seed = trial.learning_rate, trial.seed
        recipe = TrainingPlan.of(
            section, steps=section.max_steps, peak=rate, seed=seed, geometry=geometry, patience=section.patience
        )
        run = TrainingSpec(
            label=f"{trial.name} ({_place_of(trial, section) if arm == folder else arm.name})",
            section=section,
            deepspeed=job.config_slice["deepspeed"],
            recipe=recipe,
            batches=Batches(target, batch_samples=geometry.batch_samples, seed=seed),
            windows=selection,
            folder=place,
            metrics=arm,
            identity=ground.identity(world, learning_rate=rate, seed=seed),
            trial=trial.name,
        )
        state = train_to_end(run, first_model(ground, seed, start), world, progress)
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
    job: Job, section: ArmSection, carry_out_trial: Callable[..., None]
) -> list[tuple[Path, list[TrialResult], list[TrialResult]]]:
    """The folder, the grid's results and the best one of each branch of pretraining; nothing for scratch.

    The whole grid, because less pretraining may want another rate, and one seed.
    """
    found = []
    for start in _branch_weights(job):
        arm = Path(job.folder) / BRANCHES / start.parent.name
        carry_out_branch = partial(carry_out_trial, arm=arm, start=start)
        found.append((arm, *run_trials(arm, section.learning_rates, section.seeds[:1], carry_out_branch)))
    return found


def first_model(ground: TrainingInputs, seed: int, start: Path | None = None) -> GPT:
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


def _place_of(trial: Trial, section: ArmSection) -> str:
    """Where the trial stands among the arm's, as "2 of 5"."""
    rates, seeds = section.learning_rates, section.seeds
    first = trial.seed == seeds[0]
    place = rates.index(trial.learning_rate) if first else len(rates) + seeds.index(trial.seed) - 1
    return f"{place + 1} of {len(rates) + len(seeds) - 1}"


def _arm_counts(
    section: ArmSection, shape: GPTShape, grid: list[TrialResult], chosen: list[TrialResult]
) -> dict[str, Any]:
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
