"""The experiments as data: the number of each, what it is about, and the function that carries it out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.faults.experiments import (
    changed_settings,
    corruption,
    disks,
    divergence,
    hosts,
    memory,
    process_death,
    shared_store,
)
from tests.faults.experiments.outcome import Outcome
from tests.faults.experiments.workshop import Workshop


@dataclass(frozen=True)
class Experiment:
    """One number of the list; it may have several rows."""

    number: int
    about: str
    carry_out: Callable[[Workshop], Sequence[Outcome]]


EXPERIMENTS = (
    Experiment(1, "ranks killed at random steps", process_death.random_kills),
    Experiment(2, "ranks killed while a checkpoint is saved", process_death.kills_while_saving),
    Experiment(3, "runs that are asked to stop", process_death.stops),
    Experiment(4, "the launcher killed", process_death.killed_launcher),
    Experiment(5, "no memory left", memory.no_memory_left),
    Experiment(6, "a rank halted", process_death.halted_rank),
    Experiment(7, "a cable cut", hosts.cut_cable),
    Experiment(8, "a slow network", hosts.slow_network),
    Experiment(9, "a master that cannot be met", hosts.wrong_meeting_points),
    Experiment(10, "damaged checkpoints", corruption.damaged_checkpoints),
    Experiment(13, "a changed tokenizer", corruption.changed_tokenizer),
    Experiment(14, "full disks", disks.full_disks),
    Experiment(15, "folders that cannot be written", disks.folders_that_cannot_be_written),
    Experiment(16, "two runs on one store", shared_store.two_runs),
    Experiment(17, "runs killed between their stages", shared_store.killed_between_stages),
    Experiment(18, "a changed config on resume", changed_settings.changed_fields),
    Experiment(19, "other numbers of ranks", changed_settings.numbers_of_ranks),
    Experiment(20, "files that are no config", changed_settings.odd_configs),
    Experiment(24, "losses that are no numbers", divergence.bad_losses),
    Experiment(26, "pickles, tokens, listeners", corruption.canaries),
)
