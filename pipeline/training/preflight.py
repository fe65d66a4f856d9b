"""What is refused before any stage runs, so that nobody waits for a corpus to learn that a batch does not divide."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline.config.schema import Config
from pipeline.errors import ConfigError
from pipeline.graph.fitted_batch import TrainingText, fitted_section
from pipeline.graph.stage_counts import ShardsCounts
from pipeline.graph.stages import Stage
from pipeline.runtime.formatting import counted
from pipeline.training.deepspeed_config import refuse_owned_keys
from pipeline.training.training_plan import BatchGeometry, branches_of


def refuse_impossible(config: Config, stages: Iterable[Stage], ranks: int, shards: ShardsCounts | None = None) -> None:
    """Raise ConfigError if one of these stages cannot train on this many ranks.

    Whatever the data; once there are `shards`, also if their text is too short for what the config asks for.
    """
    refuse_owned_keys(config.deepspeed)
    if shards is not None:
        refuse_unmeasurable(shards)
    for stage in stages:
        if stage.trains:
            section: Any = getattr(config, stage.name)
            BatchGeometry.of(stage.name, section, context=config.model.context, world_size=ranks)
            if shards is not None:
                text = TrainingText.of(stage.name, shards, stage.slice(config).get("weights", {}))
                fitted_section(stage.name, section, text, context=config.model.context, ranks=ranks)
        # Not under `trains`: a pretrain stage that imports its weights does not train, but its config is checked, too.
        if stage.name == "pretrain":
            branches_of(config.pretrain)


def refuse_unmeasurable(shards: ShardsCounts) -> None:
    """Raise ConfigError for a target whose validation split is too short to give the report an interval."""
    # A shard begins with the end-of-text id, which nothing predicts; then two tokens are two pieces to draw from.
    tokens = shards.target_validation.tokens - 1
    if tokens < 2:
        raise ConfigError(
            f"The target's validation split has {counted(tokens, 'token')}; an interval needs two.",
            remedy="Raise target.validation, or give a longer target.",
        )
