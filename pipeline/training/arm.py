"""Both arms on every rank: the trainings of scratch or finetune, and those of each branch that finetune starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, cast

from gpt.counts import num_parameters
from pipeline.config.training_sections import ArmSection
from pipeline.distributed.job import Job
from pipeline.distributed.world import World
from pipeline.graph.stage_counts import ArmCounts, FinetunedBranch
from pipeline.runtime.progress import Progress
from pipeline.saved_models.model_files import BRANCHES, WEIGHTS
from pipeline.saved_models.weights import save_shape
from pipeline.tokens.batches import Batches, Mixture
from pipeline.tokens.scoring_windows import ScoringWindows
from pipeline.training.fit import TrainingSpec, train_to_end
from pipeline.training.inputs import TrainingInputs
from pipeline.training.training_plan import BatchGeometry, TrainingPlan
from pipeline.training.trials import ArmTrials, Trial, discard, run_trials


@dataclass(frozen=True)
class ArmTraining:
    """What the trainings of one arm have in common. Trials differ in learning rate and seed, and in nothing else."""

    section: ArmSection
    inputs: TrainingInputs
    geometry: BatchGeometry
    target: Mixture  # trials are trained on
    selection: ScoringWindows  # chooses the learning rate and the best step
    refit: Mixture  # refits are trained on: both of these
    world: World
    progress: Progress
    folder: Path  # receives trials/ and the metrics of all of them
    start: Path | None = None  # weights of a branch of pretraining; None: where the stage starts

    @classmethod
    def of(cls, job: Job, world: World, progress: Progress) -> ArmTraining:
        """The arm of a scratch or finetune job. Raises DataError or ConfigError if its inputs cannot be trained on."""
        section = cast(ArmSection, job.section)
        inputs = TrainingInputs.of(job, dropout=section.dropout)
        context = inputs.shape.context
        return cls(
            section=section,
            inputs=inputs,
            geometry=BatchGeometry.of(job.stage, section, context=context, world_size=world.world_size),
            # The arms are compared on the validation split, so nothing here opens it.
            target=inputs.target("train"),
            refit=inputs.target("refit"),
            selection=ScoringWindows.covering(inputs.stream("target/selection.arrow"), context=context),
            world=world,
            progress=progress,
            folder=Path(job.folder),
        )

    def from_branch(self, weights: Path) -> ArmTraining:
        """The same arm, finetuned from the weights that a branch of pretraining ended with."""
        return replace(self, folder=self.folder / BRANCHES / weights.parent.name, start=weights)

    def finish_trials(self, seeds: Sequence[int]) -> ArmTrials:
        """The grid of rates on the first seed, then what is reported on each. Collective."""
        section = self.section
        return run_trials(self.folder, section.learning_rates, seeds, self.train_trial, refit=section.refit)

    def train_trial(self, trial: Trial, folder: Path) -> None:
        """Train one trial to its end and leave its weights in `folder`. Raises Diverged and Preempted. Collective."""
        spec = self.spec(trial, folder)
        state = train_to_end(spec, self.inputs.first_model(trial.seed, self.start), self.world, self.progress)
        if self.world.leads and state.best_step is not None:
            best = f"best {state.best_nats_per_token:.4f} nats/token at step {state.best_step:,}"
            self.progress.say(f"{trial.name}: {best}")

    def spec(self, trial: Trial, folder: Path) -> TrainingSpec:
        """How one trial or refit is trained in its folder."""
        section, rate, seed = self.section, trial.learning_rate, trial.seed
        plan = TrainingPlan.of(
            section,
            steps=self.in_epochs_of_refit(section.max_steps) if trial.is_refit else section.max_steps,
            peak=rate,
            seed=seed,
            geometry=self.geometry,
            patience=0 if trial.is_refit else section.patience,
        )
        if trial.refit_step is not None:
            plan = replace(plan, stop_at=self.in_epochs_of_refit(trial.refit_step))
        text = self.refit if trial.is_refit else self.target
        return TrainingSpec(
            label=f"{trial.name} ({self._place_of(trial) if self.start is None else self.folder.name})",
            section=section,
            deepspeed=self.inputs.job.config_slice["deepspeed"],
            plan=plan,
            batches=Batches(text, batch_samples=self.geometry.batch_samples, seed=seed),
            held_out=None if trial.is_refit else self.selection,
            folder=folder,
            metrics_folder=self.folder,
            identity=self.inputs.identity(learning_rate=rate, seed=seed, stop_at=plan.steps),
            trial=trial.name,
            keeps_best=not section.refit,
        )

    def in_epochs_of_refit(self, steps: int) -> int:
        """As many epochs of the larger text as these steps are of the smaller."""
        return max(round(steps * self.refit.num_samples / self.target.num_samples), 1)

    def _place_of(self, trial: Trial) -> str:
        """Which of the arm's trainings it is, as "2 of 6"."""
        rates, seeds = self.section.learning_rates, self.section.seeds
        first = len(rates) if self.section.refit else len(rates) - 1  # before the first that is reported
        in_grid = not trial.is_refit and trial.seed == seeds[0]
        place = rates.index(trial.learning_rate) if in_grid else first + seeds.index(trial.seed)
        return f"{place + 1} of {first + len(seeds)}"


def train_arm(job: Job, world: World, progress: Progress) -> ArmCounts | None:
    """Train scratch or finetune on the target; leaves the weights of what is reported.

    The arms differ in where their weights start, and in nothing else. Counts on rank 0, None on the others. Collective.
    """
    arm = ArmTraining.of(job, world, progress)
    trials = arm.finish_trials(arm.section.seeds)
    # The whole grid for each branch, because less pretraining may want another rate, but one seed: that many points
    # of the gain curve are affordable. docs/decisions/branches-share-the-stable-phase.md
    branches = [arm.from_branch(weights) for weights in _branch_weights(job)]
    branch_trials = [(branch, branch.finish_trials(arm.section.seeds[:1])) for branch in branches]
    if not world.leads:
        return None
    save_shape(arm.folder, arm.inputs.shape)
    # Only now: a stage that is interrupted before its end must find every trial's weights again.
    for training, records in [(arm, trials), *branch_trials]:
        discard(training.folder, records)
    finetuned = [
        FinetunedBranch(branch=branch.folder.name, **_totals(branch, records)) for branch, records in branch_trials
    ]
    return ArmCounts(**_totals(arm, trials), branches=tuple(finetuned))


def _branch_weights(job: Job) -> list[Path]:
    """What pretraining left at its branches, in the order of their steps; nothing for scratch."""
    if job.stage != "finetune":
        return []
    return sorted(job.input("pretrain").glob(f"{BRANCHES}/step-*/{WEIGHTS}"))


def _totals(arm: ArmTraining, trials: ArmTrials) -> dict[str, Any]:
    """The fields of `ArmTotals`."""
    return {
        "learning_rate": trials.best.learning_rate,
        "chosen_step": trials.best.best_step,
        "grid": tuple(record.summary() for record in trials.grid),
        "seeds": arm.section.seeds,
        "trials": tuple(record.summary() for record in trials.reported),
        "tokens": sum(record.tokens for record in trials.all),
        "tokens_per_second": median(record.tokens_per_second for record in trials.all),
        "parameters": num_parameters(arm.inputs.shape),
    }
