"""The stage graph as data: what each stage is called, needs, may see of the config, and which function does it.

Order is execution order. The function is named, not imported: planning and `--help` load neither torch nor datasets.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from pipeline.graph.config import Config

Slice = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """One node. `version` is the format of its artifact: raise it when the same config would now give another one."""

    name: str
    needs: tuple[str, ...]
    slice: Callable[[Config], Slice]
    function: str
    version: int = 1
    trains: bool = False  # every rank of every node takes part
    pretrains: bool = False  # only in runs that have a corpus


def sections(*names: str) -> Callable[[Config], Slice]:
    """A slice made of whole top-level sections."""
    return lambda config: {name: getattr(config, name) for name in names}


def _pretraining(config: Config) -> Slice:
    weights = {source.name: source.weight for source in config.corpus.sources}
    return {**sections("model", "pretrain", "deepspeed")(config), "weights": weights}


TRAINING = "pipeline.training.stages:run"
STAGES = (
    Stage("target", (), sections("target"), "pipeline.corpus.target:run"),
    Stage("corpus", ("target",), sections("corpus"), "pipeline.corpus.build:run", pretrains=True),
    Stage("tokenizer", ("target", "corpus"), sections("tokenizer"), "pipeline.tokens.training:run"),
    Stage("shards", ("target", "corpus", "tokenizer"), sections("shards"), "pipeline.tokens.encoding:run"),
    Stage("pretrain", ("tokenizer", "shards"), _pretraining, TRAINING, trains=True, pretrains=True),
    Stage("scratch", ("tokenizer", "shards"), sections("model", "scratch", "deepspeed"), TRAINING, trains=True),
    Stage(
        "finetune",
        ("tokenizer", "shards", "pretrain"),
        sections("model", "finetune", "deepspeed"),
        TRAINING,
        trains=True,
        pretrains=True,
    ),
    Stage(
        "report",
        ("target", "corpus", "tokenizer", "shards", "pretrain", "scratch", "finetune"),
        sections("report", "model"),
        "pipeline.results.report:run",
    ),
)
NAMES = tuple(stage.name for stage in STAGES)
# What takes their place in a run whose weights are imported; there is no corpus then.
IMPORTED = (
    Stage("tokenizer", (), sections("pretrained"), "pipeline.exchange.stages:take_tokenizer"),
    Stage(
        "pretrain",
        ("target", "tokenizer", "shards"),
        sections("model", "pretrained"),
        "pipeline.exchange.stages:take_weights",
        pretrains=True,
    ),
)


def stages_of(config: Config) -> tuple[Stage, ...]:
    """The stages of a run, in order. Without a corpus (the lecture's runs) nothing is pretrained or finetuned, unless
    pretrained weights are imported.
    """
    if config.pretrained is not None:
        imported = {stage.name: stage for stage in IMPORTED}
        return tuple(imported.get(stage.name, stage) for stage in STAGES if stage.name != "corpus")
    return STAGES if has_corpus(config) else tuple(stage for stage in STAGES if not stage.pretrains)


def has_corpus(config: Config) -> bool:
    return bool(config.corpus.sources) or config.corpus.fallback


def inputs_of(stage: Stage, config: Config) -> tuple[str, ...]:
    """Names of the stages whose artifacts this one reads in this run."""
    present = {one.name for one in stages_of(config)}
    return tuple(name for name in stage.needs if name in present)


def fingerprints(config: Config) -> dict[str, str]:
    """Stage name -> hex digest of its format version, its slice of the config and the fingerprints of its inputs."""
    found: dict[str, str] = {}
    for stage in stages_of(config):
        inputs = {name: found[name] for name in inputs_of(stage, config)}
        text = json.dumps([stage.name, stage.version, identity(stage.slice(config)), inputs], sort_keys=True)
        found[stage.name] = hashlib.sha256(text.encode()).hexdigest()
    return found


def identity(value: Any) -> Any:
    """Plain JSON of a slice, without the fields that only change how things are saved or shown."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {name: identity(getattr(value, name)) for name, field in fields.items() if _counts(field)}
    if isinstance(value, Mapping):
        return {str(name): identity(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [identity(item) for item in value]
    return value


def _counts(field: Any) -> bool:
    extra = field.json_schema_extra
    return not (isinstance(extra, dict) and extra.get("identity") is False)
