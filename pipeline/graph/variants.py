"""Variants of a run that its report compares it with: some stages again, under another config.

    leak      corpus, shards, pretraining and finetuning without decontamination
    rival     another model from scratch, with its own tokenizer and shards if the config changes the tokenizer
    size      the same chain with a model of another size, on the run's own shards

A variant reads the run's own artifacts wherever it does not make the stage itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.config.loading import with_changes
from pipeline.config.schema import Config
from pipeline.errors import ConfigError

LEAK_STAGES = ("corpus", "shards", "pretrain", "finetune")
SIZE_STAGES = ("pretrain", "scratch", "finetune")


@dataclass(frozen=True)
class Variant:
    """Which variant, and the name that is printed before its stages, as in "leak.corpus"."""

    kind: Literal["leak", "rival", "size"]
    name: str

    def stage_name(self, stage: str) -> str:
        """How its stage is printed, and called in manifests and in report.json."""
        return f"{self.name}.{stage}"


LEAK = Variant("leak", "leak")


@dataclass(frozen=True)
class VariantPlan:
    """The stages that a variant does again, and the config that they see."""

    variant: Variant
    stages: tuple[str, ...]
    config: Config


def variants_of(config: Config) -> list[VariantPlan]:
    """Every variant that the report asks for, in the order in which they are done.

    Raises ConfigError if a rival or a size is not understood.
    """
    return [
        *_leak(config),
        *(_rival(name, config) for name in config.report.rivals),
        *(_size(name, config) for name in config.report.sizes),
    ]


def has_corpus(config: Config) -> bool:
    """Whether the run pretrains on a corpus of its own."""
    return bool(config.corpus.sources) or config.corpus.fallback


def _leak(config: Config) -> list[VariantPlan]:
    """Nothing if no leak ablation is asked for, or if there is no text that decontamination could leave in."""
    if not config.report.leak_ablation or not has_corpus(config) or config.corpus.decontaminate is False:
        return []
    open_corpus = config.corpus.model_copy(update={"decontaminate": False})
    # The tokenizer stays that of the run: one thing changes, and both models are scored on the same windows.
    leaky = _renamed(config, LEAK.name).model_copy(
        update={"corpus": open_corpus, "pretrain": _without_branches(config)}
    )
    return [VariantPlan(LEAK, LEAK_STAGES, leaky)]


def _rival(name: str, config: Config) -> VariantPlan:
    rival = Variant("rival", name)
    changed = _changed(config, f"rivals.{name}", config.report.rivals[name], known=("tokenizer", "model", "scratch"))
    if changed.tokenizer == config.tokenizer:
        return VariantPlan(rival, ("scratch",), changed)
    # A tokenizer of its own is made from the target alone: nothing of the corpus may help a model from scratch.
    no_corpus = changed.corpus.model_copy(update={"sources": (), "fallback": False})
    alone = changed.model_copy(update={"corpus": no_corpus, "pretrained": None})
    return VariantPlan(rival, ("tokenizer", "shards", "scratch"), alone)


def _size(name: str, config: Config) -> VariantPlan:
    changed = _changed(config, f"sizes.{name}", config.report.sizes[name], known=("model",))
    if changed.model.context != config.model.context:
        raise ConfigError(
            f"report.sizes.{name} sets model.context.", remedy="All sizes are scored on the same windows."
        )
    once = changed.model_copy(update={"pretrain": _without_branches(changed)})
    return VariantPlan(Variant("size", name), SIZE_STAGES, once)


def _without_branches(config: Config) -> Any:
    return config.pretrain.model_copy(update={"branch_at": ()})


def _changed(config: Config, where: str, changes: Mapping[str, Any], known: Sequence[str]) -> Config:
    """The config with keys of the `known` sections set; each arm on its first seed unless they say otherwise."""
    if not changes or any(key.split(".")[0] not in known for key in changes):
        sets = ", ".join(changes) or "nothing"
        raise ConfigError(f"report.{where} sets {sets}.", remedy=f"Set keys of {', '.join(known)}.")
    first = {f"{arm}.seeds": getattr(config, arm).seeds[:1] for arm in ("scratch", "finetune")}
    return _renamed(with_changes(config, {**first, **changes}, f"report.{where}"), where.partition(".")[2])


def _renamed(config: Config, name: str) -> Config:
    """Under a run name of its own, so that `folio plan` compares a variant with earlier ones of the same name."""
    return config.model_copy(update={"name": f"{config.name}.{name}"})
