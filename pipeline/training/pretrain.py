"""Pretraining on every rank: the corpus to its end, and each branch to its own."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import cast

from gpt.counts import num_parameters
from gpt.model import GPT
from pipeline.config.training_sections import PretrainSection
from pipeline.distributed.collectives import broadcast
from pipeline.distributed.job import Job
from pipeline.distributed.world import World
from pipeline.graph.stage_counts import PretrainCounts, PretrainedBranch
from pipeline.runtime.progress import Progress
from pipeline.saved_models.model_files import BRANCHES, CHECKPOINTS, LAST, WEIGHTS
from pipeline.saved_models.weights import save_shape
from pipeline.tokens.batches import Batches
from pipeline.tokens.scoring_windows import ScoringWindows
from pipeline.training.checkpoint_files import checkpoints_in, link_checkpoint, step_name
from pipeline.training.fit import TrainingSpec, train_to_end
from pipeline.training.inputs import TrainingInputs
from pipeline.training.metrics import Line, mean, read_metrics
from pipeline.training.state import State
from pipeline.training.training_plan import BatchGeometry, Branch, TrainingPlan, branches_of

TAIL = 0.05  # share of the steps whose mean training loss is reported


@dataclass(frozen=True)
class Pretraining:
    """A pretraining on this rank, and what its branches share with it."""

    section: PretrainSection
    inputs: TrainingInputs
    spec: TrainingSpec  # of the whole; a branch has the same with another end
    world: World
    progress: Progress

    @classmethod
    def of(cls, job: Job, world: World, progress: Progress) -> Pretraining:
        """The pretraining of a job. Raises DataError or ConfigError if its inputs cannot be trained on."""
        section, inputs = cast(PretrainSection, job.section), TrainingInputs.of(job)
        spec = _whole_spec(section, inputs, world)
        return cls(section, inputs, spec, world, progress)

    def finish_whole(self) -> State:
        """Train to the end; leaves last.safetensors and, for each branch, the checkpoint at its fork. Collective."""
        return train_to_end(self.spec, self.inputs.first_model(self.section.seed), self.world, self.progress)

    def finish_branch(self, branch: Branch) -> PretrainedBranch | None:
        """Decay from the branch's fork to its end; leaves branches/<name>/model.safetensors. Collective.

        If both warm up for equally many steps, these are the weights of a pretraining that was planned to be this short
        from the start. Counts on rank 0, None on the others.
        """
        folder = self.spec.folder / BRANCHES / branch.name
        checkpoints = folder / CHECKPOINTS
        if not broadcast((folder / WEIGHTS).exists()):
            # A branch that was interrupted has its own checkpoints already.
            if self.world.leads and not checkpoints_in(checkpoints):
                link_checkpoint(self.spec.folder / CHECKPOINTS / step_name(branch.fork), checkpoints)
            broadcast(None)  # no rank looks for checkpoints before rank 0 has put the first one there
            self._train_branch(branch, folder)
            if self.world.leads:
                shutil.rmtree(checkpoints)
                # Last: these weights are what says that the branch is finished.
                (folder / LAST).replace(folder / WEIGHTS)
        return branch_counts(branch, read_metrics(folder)) if self.world.leads else None

    def _train_branch(self, branch: Branch, folder: Path) -> None:
        plan = self.spec.plan.branched(branch, self.section.decay)
        label = f"branch to step {branch.step:,}"
        spec = replace(self.spec, label=label, plan=plan, folder=folder, metrics_folder=folder)
        # Its first weights do not matter: the checkpoint of the fork replaces them.
        train_to_end(spec, GPT(self.inputs.shape), self.world, self.progress)


def pretrain_on_corpus(job: Job, world: World, progress: Progress) -> PretrainCounts | None:
    """Train on the corpus; leaves model.safetensors and model.json. Counts on rank 0, None on the others. Collective.

    Raises Diverged and Preempted as the loop does.
    """
    pretraining = Pretraining.of(job, world, progress)
    state = pretraining.finish_whole()
    branches = [pretraining.finish_branch(branch) for branch in branches_of(pretraining.section)]
    if not world.leads:
        return None
    folder, shape = pretraining.spec.folder, pretraining.inputs.shape
    (folder / LAST).replace(folder / WEIGHTS)
    save_shape(folder, shape)
    return pretrain_counts(
        read_metrics(folder),
        state,
        batch_tokens=pretraining.section.batch_tokens,
        held_out_tokens=held_out.num_tokens if (held_out := pretraining.spec.held_out) else 0,
        parameters=num_parameters(shape),
        branches=tuple(branch for branch in branches if branch is not None),
    )


def _whole_spec(section: PretrainSection, inputs: TrainingInputs, world: World) -> TrainingSpec:
    job, context, folder = inputs.job, inputs.shape.context, Path(inputs.job.folder)
    geometry = BatchGeometry.of(job.stage, section, context=context, world_size=world.world_size)
    held_out, most = inputs.held_out(), section.evaluate_tokens
    plan = TrainingPlan.of(
        section, steps=section.steps, peak=section.learning_rate, seed=section.seed, geometry=geometry
    )
    return TrainingSpec(
        label=job.stage,
        section=section,
        deepspeed=job.config_slice["deepspeed"],
        plan=replace(plan, forks=frozenset(branch.fork for branch in branches_of(section))),
        batches=Batches(inputs.corpus(), batch_samples=geometry.batch_samples, seed=section.seed),
        held_out=ScoringWindows.spread_over(held_out, num_tokens=most, context=context) if held_out else None,
        folder=folder,
        metrics_folder=folder,
        identity=inputs.identity(),
    )


def branch_counts(branch: Branch, lines: Sequence[Line]) -> PretrainedBranch:
    """What a branch reached, from the lines of its metrics: its last evaluation, if any, is the one at its end."""
    return PretrainedBranch(
        branch=branch.name,
        steps=branch.step,
        tokens=lines[-1]["tokens"],
        val_nats_per_token=_last_evaluation(lines),
    )


def pretrain_counts(
    lines: Sequence[Line],
    state: State,
    *,
    batch_tokens: int,
    held_out_tokens: int,
    parameters: int,
    branches: tuple[PretrainedBranch, ...] = (),
) -> PretrainCounts:
    """What the manifest says of a pretraining, from the lines of its metrics and the state it ended in."""
    steps = [line for line in lines if "seconds" in line]
    # One batch's loss is noisy: the mean over the last steps says better where training ended.
    tail = steps[-max(round(TAIL * len(steps)), 1) :]
    return PretrainCounts(
        tokens=state.tokens,
        steps=state.step,
        batch_tokens=batch_tokens,
        train_nats_per_token=mean([line["train_nats_per_token"] for line in tail if not line.get("skipped")]),
        val_nats_per_token=_last_evaluation(lines),
        held_out_tokens=held_out_tokens,
        tokens_per_second=median(line["tokens_per_second"] for line in steps),
        skipped_steps=state.skipped,
        parameters=parameters,
        branches=branches,
    )


def _last_evaluation(lines: Sequence[Line]) -> float | None:
    """The loss on held-out text at the end; None if there is no such text, or if the loss was not finite."""
    evaluations = [line["evaluation_nats_per_token"] for line in lines if "evaluation_nats_per_token" in line]
    return evaluations[-1] if evaluations else None
