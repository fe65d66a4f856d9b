"""Pretraining on every rank: the corpus to its end, and each branch to its own."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, cast

from gpt.counts import num_parameters
from gpt.model import GPT, GPTShape
from pipeline.config.schema import PretrainSection
from pipeline.distributed.collectives import broadcast
from pipeline.distributed.job import Job
from pipeline.distributed.world import World
from pipeline.runtime.progress import Progress
from pipeline.saved_models.model_files import BRANCHES, CHECKPOINTS, LAST, WEIGHTS
from pipeline.saved_models.weights import save_shape
from pipeline.tokens.batches import Batches
from pipeline.tokens.scoring_windows import ScoringWindows
from pipeline.training.checkpoints import checkpoints_in, link_checkpoint, step_name
from pipeline.training.fit import TrainingSpec, train_to_end
from pipeline.training.inputs import TrainingInputs
from pipeline.training.metrics import mean, read_metrics
from pipeline.training.state import State
from pipeline.training.training_plan import BatchGeometry, Branch, TrainingPlan, branches_of, pretraining_steps

TAIL = 0.05  # share of the steps whose mean training loss is reported


def pretrain_on_corpus(job: Job, world: World, progress: Progress) -> dict[str, Any]:
    """Train on the corpus; leaves model.safetensors and model.json."""
    section, folder, ground = cast(PretrainSection, job.section), Path(job.folder), TrainingInputs.of(job)
    context = ground.shape.context
    geometry = BatchGeometry.of(job.stage, section, context=context, world_size=world.world_size)
    validation = ground.stream("corpus/validation-*.arrow")
    branches = branches_of(section)
    recipe = TrainingPlan.of(
        section, steps=pretraining_steps(section), peak=section.learning_rate, seed=section.seed, geometry=geometry
    )
    run = TrainingSpec(
        label=job.stage,
        section=section,
        deepspeed=job.config_slice["deepspeed"],
        recipe=replace(recipe, forks=frozenset(branch.fork for branch in branches)),
        batches=Batches(ground.corpus(), batch_samples=geometry.batch_samples, seed=section.seed),
        windows=ScoringWindows.spread_over(validation, num_tokens=section.evaluate_tokens, context=context),
        folder=folder,
        metrics=folder,
        identity=ground.identity(world),
    )
    state = train_to_end(run, GPT(ground.shape).initialize(section.seed), world, progress)
    ends = [_bring_to_end(branch, run, section, GPT(ground.shape), world, progress) for branch in branches]
    if not world.leads:
        return {}
    (folder / LAST).replace(folder / WEIGHTS)
    save_shape(folder, ground.shape)
    return _pretrain_counts(run, ground.shape, state) | ({"branches": ends} if ends else {})


def _bring_to_end(
    branch: Branch, run: TrainingSpec, section: PretrainSection, model: GPT, world: World, progress: Progress
) -> dict[str, Any]:
    """Decay from the branch's fork to its end; leaves branches/<name>/model.safetensors, returns what it reached.

    With a warmup of as many steps these are the weights of a pretraining that was to have so many steps from the start.
    """
    folder = run.folder / BRANCHES / branch.name
    if not broadcast((folder / WEIGHTS).exists()):
        if world.leads and not checkpoints_in(folder / CHECKPOINTS):
            link_checkpoint(run.folder / CHECKPOINTS / step_name(branch.fork), folder / CHECKPOINTS)
        broadcast(None)  # all wait for it
        recipe = run.recipe.branched(branch, section.decay)
        label = f"branch to step {branch.step:,}"
        train_to_end(replace(run, label=label, recipe=recipe, folder=folder, metrics=folder), model, world, progress)
        if world.leads:
            shutil.rmtree(folder / CHECKPOINTS)
            (folder / LAST).replace(folder / WEIGHTS)
    return _branch_counts(branch, folder) if world.leads else {}


def _branch_counts(branch: Branch, folder: Path) -> dict[str, Any]:
    evaluated = [line for line in read_metrics(folder) if "evaluation_nats_per_token" in line]
    last = evaluated[-1]
    return {
        "branch": branch.name,
        "steps": branch.step,
        "tokens": last["tokens"],
        "val_nats_per_token": last["evaluation_nats_per_token"],
    }


def _pretrain_counts(run: TrainingSpec, shape: GPTShape, state: State) -> dict[str, Any]:
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
