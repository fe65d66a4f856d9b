"""One change at a time: configs that differ from a baseline in the compared keys and in nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpt.counts import num_parameters
from gpt.shape import GPTShape
from pipeline.config.loading import parsed_setting, with_changes
from pipeline.config.schema import Config
from pipeline.errors import ConfigError
from pipeline.graph import forecast

WIDTH_UNIT = 8  # feed-forward widths are multiples of it


@dataclass(frozen=True)
class ChangedConfig:
    """A named config, and what was changed in it: dotted keys and their values; empty for the baseline."""

    name: str
    config: Config
    changes: Mapping[str, Any]

    @property
    def parameters(self) -> int:
        """Parameters of its model."""
        return num_parameters(shape_of(self.config))


def shape_of(config: Config) -> GPTShape:
    """The shape of a config's model, with as many tokens as its tokenizer is expected to have."""
    return config.model.shape(forecast.vocabulary(config.tokenizer))


def with_changes_of_command_line(config: Config, changes: Sequence[str]) -> Config:
    """The config with these changes, such as "model.activation=swiglu", in place of its own; each is its own name.

    Without any the config stays as it is. Raises ConfigError if one is not of the form a.b=value.
    """
    if not changes:
        return config
    # At least two parts: a key without a dot would replace a whole section, which is more than one feature.
    settings = [
        parsed_setting(change, option="--change", example="model.activation=swiglu", min_parts=2) for change in changes
    ]
    named = {change: {key: value} for change, (key, value) in zip(changes, settings, strict=True)}
    return config.model_copy(update={"ablation": config.ablation.model_copy(update={"changes": named})})


def changed_configs(config: Config) -> list[ChangedConfig]:
    """The baseline, then a config for each of `ablation.changes`, with the baseline's number of parameters.

    Raises ConfigError if a change is not understood, changes nothing, or reaches beyond the model and the stage.
    """
    baseline = ChangedConfig("baseline", config, {})
    configs = [baseline]
    for name, changes in config.ablation.changes.items():
        _refuse_elsewhere(name, changes, config.ablation.stage)
        changed = with_changes(config, changes, f"ablation.changes.{name}")
        if changed == config:
            raise ConfigError(
                f"ablation.changes.{name} changes nothing: the baseline has these values already.",
                remedy="Remove it, or change the baseline.",
            )
        # A change of the width itself asks for another number of parameters; matching would undo it.
        matched = changed if "model.hidden" in changes else with_parameters(changed, baseline.parameters)
        configs.append(ChangedConfig(name, matched, changes))
    if len(configs) == 1:
        raise ConfigError("There is nothing to compare: ablation.changes is empty.", remedy="Give --change a.b=value.")
    return configs


def with_parameters(config: Config, wanted: int) -> Config:
    """The config with the feed-forward width that brings its number of parameters closest to `wanted`.

    It stays as it is where no width does so: embedding tables can be larger than all feed-forward layers together.
    """
    shape = shape_of(config)
    missing = wanted - num_parameters(shape)
    # Parameters grow linearly with the width, whatever the activation, so one step says how fast.
    wider = config.model.model_copy(update={"hidden": shape.hidden_width + WIDTH_UNIT})
    per_unit = num_parameters(wider.shape(shape.vocab_size)) - num_parameters(shape)
    hidden = shape.hidden_width + WIDTH_UNIT * round(missing / per_unit)
    if hidden < WIDTH_UNIT or hidden == shape.hidden_width:
        return config
    return config.model_copy(update={"model": config.model.model_copy(update={"hidden": hidden})})


def _refuse_elsewhere(name: str, changes: Mapping[str, Any], stage: str) -> None:
    for key in changes:
        if key.split(".")[0] not in ("model", stage):
            raise ConfigError(
                f"ablation.changes.{name} sets {key}; with stage {stage} only model and {stage} are compared.",
                remedy="Another text or tokenizer makes losses incomparable: use a second config and run that.",
            )
