"""The stage graph as data: what each stage is called, needs, may see of the config, and which function does it.

Order is execution order. The function is named, not imported: planning and `--help` load neither torch nor datasets.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel

from pipeline.errors import ConfigError
from pipeline.graph.config import Config
from pipeline.graph.configfile import with_changes

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
        version=2,
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
        """Where the node stands among the stages: what only the report compares with, just before it."""
        return NAMES.index(self.stage.name) if self.name in NAMES else len(NAMES) - 1.5


def nodes_of(config: Config) -> tuple[Node, ...]:
    """Everything that a run makes, in order: its stages, and before the report what the report compares them with.

    Raises ConfigError if a rival or a size is not understood.
    """
    *nodes, report = (
        Node(stage.name, stage, config, {name: name for name in inputs_of(stage, config)})
        for stage in stages_of(config)
    )
    more = [
        *_leak(config, nodes),
        *(node for name in config.report.rivals for node in _rival(name, config, nodes)),
        *(node for name in config.report.sizes for node in _size(name, config, nodes)),
    ]
    read = {node.name: node.name for node in more}
    return (*nodes, *more, replace(report, inputs={**report.inputs, **read}))


def _leak(config: Config, nodes: Sequence[Node]) -> list[Node]:
    """What the leak ablation does again, if one is asked for and there is something to leave in."""
    if not config.report.leak_ablation or not has_corpus(config) or config.corpus.decontaminate is False:
        return []
    open_corpus = config.corpus.model_copy(update={"decontaminate": False})
    once = config.pretrain.model_copy(update={"branch_at": ()})
    name = f"{config.name}.leak"  # what changed since the last one is asked for each apart
    leaky = config.model_copy(update={"name": name, "corpus": open_corpus, "pretrain": once})
    # The tokenizer stays: one thing changes, and both models are scored on the same windows.
    return _again(LEAK, LEAKING, leaky, nodes)


def _rival(name: str, config: Config, nodes: Sequence[Node]) -> list[Node]:
    """A rival's training, and with another tokenizer its own, made from the target alone."""
    changes = config.report.rivals[name]
    other = _changed(config, f"rivals.{name}", changes, known=("tokenizer", "model", "scratch"))
    if other.tokenizer == config.tokenizer:
        return _again(f"{name}.", ("scratch",), other, nodes)
    no_corpus = other.corpus.model_copy(update={"sources": (), "fallback": False})
    alone = other.model_copy(update={"corpus": no_corpus, "pretrained": None})
    return _again(f"{name}.", ("tokenizer", "shards", "scratch"), alone, nodes)


def _size(name: str, config: Config, nodes: Sequence[Node]) -> list[Node]:
    """A model of another size: pretrained, finetuned and from scratch, on the run's own shards."""
    other = _changed(config, f"sizes.{name}", config.report.sizes[name], known=("model",))
    if other.model.context != config.model.context:
        raise ConfigError(
            f"report.sizes.{name} sets model.context.", remedy="All sizes are scored on the same windows."
        )
    once = other.pretrain.model_copy(update={"branch_at": ()})
    return _again(f"{name}.", ("pretrain", "scratch", "finetune"), other.model_copy(update={"pretrain": once}), nodes)


def _changed(config: Config, where: str, changes: Mapping[str, Any], known: Sequence[str]) -> Config:
    """The config under another name with keys of the `known` sections set, on the first seed of each arm."""
    if not changes or any(key.split(".")[0] not in known for key in changes):
        sets = ", ".join(changes) or "nothing"
        raise ConfigError(f"report.{where} sets {sets}.", remedy=f"Set keys of {', '.join(known)}.")
    first = {f"{arm}.seeds": getattr(config, arm).seeds[:1] for arm in ("scratch", "finetune")}
    other = with_changes(config, {**first, **changes}, f"report.{where}")
    return other.model_copy(update={"name": f"{config.name}.{where.partition('.')[2]}"})


def _again(prefix: str, names: Sequence[str], config: Config, nodes: Sequence[Node]) -> list[Node]:
    """The nodes of these names under another config, reading each other where they can."""
    stages = {stage.name: stage for stage in stages_of(config)}  # its own: a rival's tokenizer is never an imported one
    return [
        Node(
            prefix + node.name,
            stages[node.name],
            config,
            {name: prefix + name if name in names else name for name in inputs_of(stages[node.name], config)},
        )
        for node in nodes
        if node.name in names
    ]


def stages_of(config: Config) -> tuple[Stage, ...]:
    """The stages of a run, in order. Without a corpus or imported weights nothing is pretrained or finetuned."""
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
        values = {name: getattr(value, name) for name in fields}
        return {name: identity(values[name]) for name, field in fields.items() if _counts(field, values[name])}
    if isinstance(value, Mapping):
        return {str(name): identity(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [identity(item) for item in value]
    return value


def _counts(field: Any, value: Any) -> bool:
    extra = field.json_schema_extra
    marked = extra.get("identity", True) if isinstance(extra, dict) else True
    return value != field.default if marked == "unless default" else bool(marked)
