"""The plan of one training: how a batch is split over ranks, how many steps, when to evaluate and save.

The config says how much is trained on and the launcher how many ranks there are; a plan is what follows from both, and
all that the loop knows of either.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from pipeline.config.training_sections import PretrainSection, TrainingSection
from pipeline.errors import ConfigError
from pipeline.training.schedule import Schedule


@dataclass(frozen=True)
class BatchGeometry:
    """One batch: `batch_samples = world_size x accumulation x micro_batch` windows of `context` targets each."""

    context: int
    world_size: int
    micro_batch: int  # samples that one rank feeds one forward
    accumulation: int  # micro-batches of one rank in a step

    @classmethod
    def of(cls, stage: str, section: TrainingSection, *, context: int, world_size: int) -> BatchGeometry:
        """Split `batch_tokens` evenly over the ranks.

        A micro-batch larger than a rank's share shrinks to it: it is an upper limit given by memory, so a small batch
        needs no second setting. Raises ConfigError where no even split exists.
        """
        tokens, ranks = section.batch_tokens, world_size
        share = max(tokens // (ranks * context), 1)
        micro = min(section.micro_batch, share)
        unit = ranks * micro * context
        # Rounding here would change the batch with the number of ranks, and with it what is computed: refuse instead.
        if tokens % unit:
            raise ConfigError(
                f"{stage}.batch_tokens is {tokens:,}, not a multiple of {unit:,} "
                f"({ranks} ranks x micro_batch {micro} x context {context}).",
                remedy=f"Use {max(round(tokens / unit), 1) * unit:,}, or change {stage}.micro_batch.",
            )
        return cls(context, world_size, micro, tokens // unit)

    @property
    def batch_samples(self) -> int:
        return self.world_size * self.accumulation * self.micro_batch


@dataclass(frozen=True)
class Branch:
    """A shorter pretraining that shares its beginning with the whole one: it leaves at `fork` and ends at `step`."""

    step: int
    fork: int

    @property
    def name(self) -> str:
        return f"step-{self.step:08d}"


def branches_of(section: PretrainSection) -> tuple[Branch, ...]:
    """The branches of `branch_at`, in order. Raises ConfigError where a branch would not be a shorter pretraining."""
    steps = section.steps
    # Cosine falls from the first step towards an end it must know, so a shorter training shares none of its rates.
    if section.branch_at and section.schedule != "wsd":
        raise ConfigError(
            f"pretrain.branch_at needs schedule wsd, whose rate does not know the end; it is {section.schedule}.",
            remedy="Set pretrain.schedule to wsd, or remove branch_at.",
        )
    if section.branch_at and section.decay == 0:
        raise ConfigError(
            "pretrain.branch_at needs pretrain.decay: it is all that a branch trains by itself, and it is 0.",
            remedy="Set pretrain.decay, such as 20%, or remove branch_at.",
        )
    warmup = ceil(section.warmup * steps)
    branches = [Branch(step, fork=step - ceil(section.decay * step)) for step in sorted(set(section.branch_at))]
    for branch in branches:
        if branch.fork < max(warmup, 1) or branch.step >= steps:
            raise ConfigError(
                f"pretrain.branch_at has {branch.step:,}, which leaves at step {branch.fork:,}; the warmup of "
                f"{warmup:,} steps must be over then, and pretraining itself ends at {steps:,}.",
                remedy="Choose steps in between.",
            )
    return tuple(branches)


@dataclass(frozen=True)
class TrainingPlan:
    """What the loop follows. Everything random in it is drawn from (seed, step, rank)."""

    schedule: Schedule
    geometry: BatchGeometry
    seed: int
    evaluate_every: int  # steps; 0 evaluates at the end only
    save_every: int  # steps; 0 saves no checkpoint on the way
    patience: int  # evaluations without improvement before training stops; 0 never stops early
    skip_limit: int
    spike: float | None = None  # robust z-score above which a loss is skipped; None skips none
    forks: frozenset[int] = frozenset()  # steps that branches start from: saved, whatever `save_every` says
    stop_at: int | None = None  # a step before the schedule's end, or that

    @classmethod
    def of(
        cls, section: TrainingSection, *, steps: int, peak: float, seed: int, geometry: BatchGeometry, patience: int = 0
    ) -> TrainingPlan:
        """The plan of `steps` steps at a peak learning rate; the section gives the rest."""
        schedule = Schedule(
            kind=section.schedule,
            steps=steps,
            peak=peak,
            # Rounded up, so that a short training keeps at least one step of a phase that its config asks for.
            warmup_steps=ceil(section.warmup * steps),
            decay_steps=ceil(section.decay * steps),
            final=section.final_learning_rate,
        )
        every = section.evaluate_every, section.save_every
        return cls(schedule, geometry, seed, *every, patience, section.skip_limit, section.spike)

    def branched(self, branch: Branch, decay: float) -> TrainingPlan:
        """The same up to the fork; then the rate decays over the last share `decay` of the branch's steps."""
        schedule = replace(self.schedule, steps=branch.step, decay_steps=ceil(decay * branch.step))
        return replace(self, schedule=schedule, forks=frozenset())

    @property
    def steps(self) -> int:
        return self.schedule.steps if self.stop_at is None else self.stop_at

    def evaluates_at(self, step: int) -> bool:
        """At every multiple of `evaluate_every` and at the end."""
        return step == self.steps or (self.evaluate_every > 0 and step % self.evaluate_every == 0)

    def saves_at(self, step: int) -> bool:
        """At every multiple of `save_every` and at the forks; the end is saved by whoever runs the loop."""
        return step in self.forks or (self.save_every > 0 and step % self.save_every == 0)
