"""One change at a time: configs that differ from a baseline in what is compared, and in nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpt.counts import num_parameters
from pipeline.config.loading import with_changes
from pipeline.config.schema import Config
from pipeline.errors import ConfigError
from pipeline.graph import forecast

WIDTH_UNIT = 8  # feed-forward widths are multiples of it


@dataclass(frozen=True)
class ChangedConfig:
    """A named config, and what was changed in it: dotted keys and their values; nothing for the baseline."""

    name: str
    config: Config
    changes: Mapping[str, Any]

    @property
    def parameters(self) -> int:
        return parameters_of(self.config)


def changed_configs(config: Config) -> list[ChangedConfig]:
    """The baseline, then a variant for each of `ablation.changes`, with the baseline's number of parameters.

    Raises ConfigError if a change is not understood, changes nothing, or reaches beyond the model and the stage.
    """
    baseline = ChangedConfig("baseline", config, {})
    found = [baseline]
    for name, changes in config.ablation.changes.items():
        _refuse_elsewhere(name, changes, config.ablation.stage)
        changed = with_changes(config, changes, f"ablation.changes.{name}")
        if changed == config:
            raise ConfigError(
                f"ablation.changes.{name} changes nothing: the baseline has these values already.",
                remedy="Remove it, or change the baseline.",
            )
        matched = changed if "model.hidden" in changes else with_parameters(changed, baseline.parameters)
        found.append(ChangedConfig(name, matched, changes))
    if len(found) == 1:
        raise ConfigError("There is nothing to compare: ablation.changes is empty.", remedy="Give --change a.b=value.")
    return found


def with_parameters(config: Config, wanted: int) -> Config:
    """The config with the feed-forward width that brings its parameters closest to `wanted`.

    Where no width does, as for tables larger than all feed-forward layers together, the config stays as it is.
    """
    shape = config.model.shape(forecast.vocabulary(config.tokenizer))
    missing = wanted - num_parameters(shape)
    wider = config.model.model_copy(update={"hidden": shape.hidden_width + WIDTH_UNIT})
    per_unit = num_parameters(wider.shape(shape.vocab_size)) - num_parameters(shape)
    hidden = shape.hidden_width + WIDTH_UNIT * round(missing / per_unit)
    if hidden < WIDTH_UNIT or hidden == shape.hidden_width:
        return config
    return config.model_copy(update={"model": config.model.model_copy(update={"hidden": hidden})})


def parameters_of(config: Config) -> int:
    return num_parameters(config.model.shape(forecast.vocabulary(config.tokenizer)))


def _refuse_elsewhere(name: str, changes: Mapping[str, Any], stage: str) -> None:
    for key in changes:
        if key.split(".")[0] not in ("model", stage):
            raise ConfigError(
                f"ablation.changes.{name} sets {key}; with stage {stage} only model and {stage} are compared.",
                remedy="Other text or another tokenizer makes another question: run a config of its own.",
            )
