"""The stage graph as data: what each stage is called, needs, may see of the config, and which function does it.

Order is execution order. The function is named, not imported: planning and `--help` load neither torch nor datasets.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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


LEAK = "leak."  # prefix of the names of what the leak ablation does again
LEAKING = ("corpus", "shards", "pretrain", "finetune")


@dataclass(frozen=True)
class Node:
    """One artifact of a run: its name there, its stage, the config that the stage sees, and the nodes it reads."""

    name: str
    stage: Stage
    config: Config
    inputs: Mapping[str, str]  # what the stage calls an input -> the node's name

    @property
    def position(self) -> float:
        """Where the node stands among the stages; the leak ablation's between the last training and the report."""
        return NAMES.index(self.stage.name) if self.name in NAMES else len(NAMES) - 1.5


def nodes_of(config: Config) -> tuple[Node, ...]:
    """Everything that a run makes, in order: its stages, and before the report what the leak ablation does again."""
    nodes = [
        Node(stage.name, stage, config, {name: name for name in inputs_of(stage, config)})
        for stage in stages_of(config)
    ]
    if not leaks(config):
        return tuple(nodes)
    open_corpus = config.corpus.model_copy(update={"decontaminate": False})
    once = config.pretrain.model_copy(update={"branch_at": ()})
    name = f"{config.name}.leak"  # what changed since the last one is asked for each apart
    leaky = config.model_copy(update={"name": name, "corpus": open_corpus, "pretrain": once})
    again = [
        Node(LEAK + node.name, node.stage, leaky, {name: _leaking(name) for name in node.inputs})
        for node in nodes
        if node.name in LEAKING
    ]
    report = nodes[-1]
    read = {**report.inputs, **{node.name: node.name for node in again}}
    return (*nodes[:-1], *again, replace(report, inputs=read))


def leaks(config: Config) -> bool:
    """Whether the run has a leak ablation: asked for, and something would be removed."""
    return config.report.leak_ablation and has_corpus(config) and config.corpus.decontaminate is not False


def _leaking(name: str) -> str:
    # The tokenizer stays: one thing changes, and both models are scored on the same windows.
    return LEAK + name if name in LEAKING else name


def stages_of(config: Config) -> tuple[Stage, ...]:
    """The stages of a run, in order. Without a corpus (the lecture's runs) nothing is pretrained or finetuned."""
    return STAGES if has_corpus(config) else tuple(stage for stage in STAGES if not stage.pretrains)


def has_corpus(config: Config) -> bool:
    return bool(config.corpus.sources) or config.corpus.fallback


def inputs_of(stage: Stage, config: Config) -> tuple[str, ...]:
    """Names of the stages whose artifacts this one reads in this run."""
    present = {one.name for one in stages_of(config)}
    return tuple(name for name in stage.needs if name in present)


def fingerprints(config: Config) -> dict[str, str]:
    """Node name -> hex digest of its stage's format version, its slice of the config and its inputs' fingerprints."""
    found: dict[str, str] = {}
    for node in nodes_of(config):
        inputs = {name: found[other] for name, other in node.inputs.items()}
        seen = identity(node.stage.slice(node.config))
        text = json.dumps([node.stage.name, node.stage.version, seen, inputs], sort_keys=True)
        found[node.name] = hashlib.sha256(text.encode()).hexdigest()
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
