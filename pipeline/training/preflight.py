"""What is refused before any stage runs, so that nobody waits for a corpus to learn that a batch does not divide."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.graph.config import Config, Launch, Training
from pipeline.graph.stages import Stage
from pipeline.training.hostfile import read_hostfile
from pipeline.training.recipe import Geometry, branches_of
from pipeline.training.settings import refuse_owned_keys
from pipeline.training.stages import default_ranks
from pipeline.training.world import World, in_external_world


def num_ranks(launch: Launch) -> int:
    """How many ranks would train: those that somebody else started, the hostfile's, or new ones here.

    Raises ConfigError if the hostfile or the environment makes no sense.
    """
    if in_external_world():
        return World.from_environment().world_size
    if launch.hostfile:
        return sum(host.slots for host in read_hostfile(Path(launch.hostfile)))
    return launch.ranks or default_ranks()


def refuse_impossible(config: Config, stages: Iterable[Stage], ranks: int) -> None:
    """Raise ConfigError if so many ranks cannot do the training ones of these stages, whatever the data."""
    refuse_owned_keys(config.deepspeed)
    for stage in stages:
        if stage.trains:
            section = getattr(config, stage.name)
            Geometry.of(stage.name, section, context=config.model.context, world_size=ranks)
            refuse_flattened_matrices(stage.name, section)
        if stage.name == "pretrain":
            branches_of(config.pretrain)


def refuse_flattened_matrices(stage: str, recipe: Training) -> None:
    """Raise ConfigError where DeepSpeed would hand Muon slices of a flat vector instead of matrices."""
    if recipe.optimizer == "muon" and (recipe.zero > 0 or recipe.dtype == "bf16"):
        raise ConfigError(
            f"{stage}.optimizer muon needs whole matrices; zero {recipe.zero} with {recipe.dtype} cuts them up.",
            remedy=f"Set {stage}.zero to 0 and {stage}.dtype to fp32 or mixed, or use adamw.",
        )
