"""The config tree: every key a run understands, its default, and what it means. Defaults live only here and in the
modules of its sections: `text_sections.py` and `training_sections.py`.

A stage never sees the tree, only the slice that `graph/stages.py` names; what is outside its slice cannot change its
artifact.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from pipeline.config.quantities import Count, NonNegativeReal, Port, PositiveCount, Processes, Resamples, Seconds, Seed
from pipeline.config.section import Section, refuse_credentials, refuse_repeated
from pipeline.config.text_sections import CorpusSection, ShardsSection, TargetSection, TokenizerSection
from pipeline.config.training_sections import (
    FinetuneSection,
    ModelSection,
    PretrainedSection,
    PretrainSection,
    ScratchSection,
)


class ReportSection(Section):
    stride: PositiveCount | None = None  # tokens scored per validation window; default the context: no overlap
    prompt: str = "ROMEO:"
    sample_tokens: Count = 300
    temperature: NonNegativeReal = 0.8  # 0 always takes the likeliest token
    resamples: Resamples = 10_000  # of the bootstrap over windows and seeds
    # Also pretrain without decontamination and finetune from that: how much of the gain would be memory?
    leak_ablation: bool = False
    # Other models from scratch that the gain must hold against: name -> dotted keys of tokenizer, model or scratch, and
    # their values. One seed each, unless scratch.seeds says otherwise.
    rivals: dict[str, dict[str, Any]] = Field(default={})
    # Other sizes of the model, for the gain over model size: name -> dotted keys of the model, and their values. Each
    # is pretrained, finetuned and trained from scratch on one seed.
    sizes: dict[str, dict[str, Any]] = Field(default={})
    seed: Seed = 0

    @model_validator(mode="after")
    def _distinct_names(self) -> ReportSection:
        # A variant's name stands before its stages (`leak.corpus`), in `folio plan` and as keys of report.json.
        taken = ({"leak"} | self.rivals.keys()) & self.sizes.keys() or {"leak"} & self.rivals.keys()
        if taken:
            raise ValueError(f"the name {min(taken)!r} is taken; rivals and sizes need names of their own")
        return self


class AblationSection(Section):
    """What `folio ablate` compares with the rest of this config, one change at a time. The run itself ignores it."""

    stage: Literal["pretrain", "scratch"] = "pretrain"  # whose weights are compared
    seeds: tuple[Seed, ...] = Field(default=(1, 2, 3), min_length=2)
    changes: dict[str, dict[str, Any]] = Field(
        default={}
    )  # name -> dotted keys of `model` and the stage, and their values

    @model_validator(mode="after")
    def _each_seed_once(self) -> AblationSection:
        refuse_repeated("seeds", self.seeds)
        return self


class LaunchSection(Section):
    """How training is started, which never changes what is computed. `folio run --ranks/--hostfile` override it."""

    ranks: Processes | None = None  # on this machine; default one per GPU, one on a CPU machine
    workers: Processes | None = None  # processes that read and encode text; default one per core
    threads: Processes | None = None  # per rank; default the cores divided by the local ranks
    hostfile: str | None = None
    port: Port | None = None  # default: a free one
    startup_seconds: Seconds = 600
    timeout_seconds: Seconds = 120


class Config(Section):
    """One run, from its data to its report: the content of a YAML file under configs/."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    target: TargetSection = TargetSection(name="tiny-shakespeare")
    corpus: CorpusSection = CorpusSection()
    tokenizer: TokenizerSection = TokenizerSection()
    pretrained: PretrainedSection | None = None
    shards: ShardsSection = ShardsSection()
    model: ModelSection = ModelSection()
    pretrain: PretrainSection = PretrainSection()
    scratch: ScratchSection = ScratchSection()
    finetune: FinetuneSection = FinetuneSection()
    report: ReportSection = ReportSection()
    ablation: AblationSection = AblationSection()
    launch: LaunchSection = LaunchSection()
    deepspeed: dict[str, Any] = Field(default={})

    # Where relative paths of data start: the folder of the file. Not a key, and no part of any fingerprint.
    _folder: Path = PrivateAttr(default=Path())

    @property
    def folder(self) -> Path:
        """The folder that relative paths of data start at."""
        return self._folder

    def based_in(self, folder: Path) -> Config:
        """The same config, whose relative paths start at `folder`."""
        based = self.model_copy()
        based._folder = folder
        return based

    @field_validator("deepspeed")
    @classmethod
    def _plain_json(cls, block: dict[str, Any]) -> dict[str, Any]:
        try:
            json.dumps(block, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError("holds a value that JSON cannot hold, such as infinity") from None
        refuse_credentials(block)
        return block

    @model_validator(mode="after")
    def _one_origin_of_weights(self) -> Config:
        if self.pretrained and (self.corpus.sources or self.corpus.fallback):
            raise ValueError("give either a corpus to pretrain on or pretrained weights, not both")
        return self

    @model_validator(mode="after")
    def _windows_without_gaps(self) -> Config:
        if self.report.stride is not None and self.report.stride > self.model.context:
            raise ValueError(f"report.stride {self.report.stride} is above model.context {self.model.context}")
        return self
