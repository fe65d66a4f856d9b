"""The stage graph as data: each stage's name, inputs, slice of the config, and the function that does it.

The order is that of execution. Functions are named, not imported, so that planning and `--help` load neither torch
nor datasets. `nodes_of` spreads the stages over the run and its variants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.config.schema import Config
from pipeline.graph.variants import Variant, has_corpus, variants_of

Slice = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """One stage. `version` is the format of its artifact: raise it when the same config would give a different one, and
    say in `news` what is different, for whoever asks why it runs again.
    """

    name: str
    needs: tuple[str, ...]  # stages whose artifacts it reads, where the run has them
    slice: Callable[[Config], Slice]  # what it may see of the config, and so what its fingerprint covers
    function: str  # "module:function" of Work -> StageCounts
    version: int = 1
    news: str = "its format changed"
    trains: bool = False  # every rank of every node takes part
    pretrains: bool = False  # part of a run only if it has a corpus or imported weights
    outside: str = ""  # the key of the config whose texts it reads from outside the store (`inputs/outside.py`)


def sections(*names: str) -> Callable[[Config], Slice]:
    """A slice made of whole top-level sections."""
    return lambda config: {name: getattr(config, name) for name in names}


def _pretraining(config: Config) -> Slice:
    # Weights change the mixture that is trained on and no text of the corpus: they are fingerprinted here.
    weights = {source.name: source.weight for source in config.corpus.sources}
    return {**sections("model", "pretrain", "deepspeed")(config), "weights": weights}


TRAINING = "pipeline.training.stage:train_stage"
REFITTED = "its seeds are now trained on the whole training part"
STAGES = (
    Stage(
        "target",
        (),
        sections("target"),
        "pipeline.corpus.target_stage:make_target",
        version=2,
        news="its selection text is now spread over the training part",
        outside="target",
    ),
    Stage(
        "corpus",
        ("target",),
        sections("corpus"),
        "pipeline.corpus.stage:build_corpus",
        outside="corpus",
        pretrains=True,
    ),
    Stage("tokenizer", ("target", "corpus"), sections("tokenizer"), "pipeline.tokens.tokenizer_stage:make_tokenizer"),
    Stage("shards", ("target", "corpus", "tokenizer"), sections("shards"), "pipeline.tokens.shards_stage:make_shards"),
    Stage("pretrain", ("tokenizer", "shards"), _pretraining, TRAINING, trains=True, pretrains=True),
    Stage(
        "scratch",
        ("tokenizer", "shards"),
        sections("model", "scratch", "deepspeed"),
        TRAINING,
        version=2,
        news=REFITTED,
        trains=True,
    ),
    Stage(
        "finetune",
        ("tokenizer", "shards", "pretrain"),
        sections("model", "finetune", "deepspeed"),
        TRAINING,
        version=2,
        news=REFITTED,
        trains=True,
        pretrains=True,
    ),
    Stage(
        "report",
        ("target", "corpus", "tokenizer", "shards", "pretrain", "scratch", "finetune"),
        sections("report", "model"),
        "pipeline.report.stage:make_report",
        version=3,
    ),
)
NAMES = tuple(stage.name for stage in STAGES)
# Replace the stages of the same names in a run whose weights are imported. Such a run has no corpus.
IMPORTED = (
    Stage(
        "tokenizer",
        (),
        sections("pretrained"),
        "pipeline.huggingface.import_stages:take_tokenizer",
        outside="pretrained",
    ),
    Stage(
        "pretrain",
        ("target", "tokenizer", "shards"),
        sections("model", "pretrained"),
        "pipeline.huggingface.import_stages:take_weights",
        outside="pretrained",
        pretrains=True,
    ),
)


@dataclass(frozen=True)
class Node:
    """One artifact of a run: a stage of the run itself (`variant` None) or of a variant, and the nodes it reads."""

    variant: Variant | None
    stage: Stage
    config: Config  # what the stage sees a slice of
    inputs: Mapping[str, Node]  # stage name -> the node that makes it
    compared: tuple[Node, ...] = ()  # the variants' nodes, which the report reads

    @property
    def name(self) -> str:
        """What is printed, such as "shards" or "leak.shards"; no two nodes of a run share it."""
        return self.variant.stage_name(self.stage.name) if self.variant else self.stage.name

    @property
    def reads(self) -> dict[str, Node]:
        """Every node that this one reads, by the name that its manifest gives the input."""
        return {**self.inputs, **{node.name: node for node in self.compared}}


def nodes_of(config: Config) -> tuple[Node, ...]:
    """Everything that a run makes, in order: its stages, with the nodes of its variants before the report.

    Raises ConfigError if a rival or a size is not understood.
    """
    own: dict[str, Node] = {}
    for stage in stages_of(config):
        own[stage.name] = Node(None, stage, config, {name: own[name] for name in inputs_of(stage, config)})
    report = own.pop("report")
    compared = [
        node for plan in variants_of(config) for node in _variant_nodes(plan.variant, plan.stages, plan.config, own)
    ]
    return (*own.values(), *compared, replace(report, compared=tuple(compared)))


def _variant_nodes(variant: Variant, names: Sequence[str], config: Config, own: Mapping[str, Node]) -> list[Node]:
    """The variant's stages, reading each other where they can and else the run's `own`."""
    # The stages come from the variant's config: a rival's tokenizer is trained even where the run's is imported.
    stages = {stage.name: stage for stage in stages_of(config)}
    made: dict[str, Node] = {}
    for name in own:
        if name in names:
            inputs = {needed: made.get(needed, own[needed]) for needed in inputs_of(stages[name], config)}
            made[name] = Node(variant, stages[name], config, inputs)
    return list(made.values())


def stages_of(config: Config) -> tuple[Stage, ...]:
    """The stages of a run, in order. Without a corpus or imported weights nothing is pretrained or finetuned."""
    if config.pretrained is not None:
        imported = {stage.name: stage for stage in IMPORTED}
        return tuple(imported.get(stage.name, stage) for stage in STAGES if stage.name != "corpus")
    return STAGES if has_corpus(config) else tuple(stage for stage in STAGES if not stage.pretrains)


def inputs_of(stage: Stage, config: Config) -> tuple[str, ...]:
    """Names of the stages whose artifacts this one reads in this run."""
    present = {one.name for one in stages_of(config)}
    return tuple(name for name in stage.needs if name in present)
