"""What all trainings of a job stand on: the tokenizer, the shards and the shape of the model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from gpt.model import GPTShape
from pipeline.distributed.job import Job
from pipeline.distributed.world import World
from pipeline.errors import DataError
from pipeline.graph.fingerprints import identity
from pipeline.tokens.batches import Mixture, corpus_mixture
from pipeline.tokens.shard import TokenStream
from pipeline.tokens.tokenizer import load_tokenizer


@dataclass(frozen=True)
class TrainingInputs:
    """The inputs of one job, opened."""

    job: Job
    shape: GPTShape
    tokenizer_sha256: str

    @classmethod
    def of(cls, job: Job, *, dropout: float | None = None) -> TrainingInputs:
        """Raises DataError if the tokenizer is missing or damaged."""
        tokenizer = load_tokenizer(job.input("tokenizer"))
        return cls(job, job.model.shape(tokenizer.vocab_size, dropout, tokenizer.end_of_text), tokenizer.sha256)

    def stream(self, pattern: str) -> TokenStream:
        """The shards below the shards stage's folder that match, as one row of tokens."""
        paths = sorted(self.job.input("shards").glob(pattern))
        if not paths:
            raise DataError(f"{self.job.input('shards')} has no {pattern}.", remedy="Run stage shards again.")
        return TokenStream.open(paths, tokenizer_sha256=self.tokenizer_sha256)

    def corpus(self) -> Mixture:
        """The corpus' training shards, each source as often as its weight says."""
        return corpus_mixture(
            self.job.input("shards"),
            "train",
            self.job.config_slice["weights"],
            context=self.shape.context,
            tokenizer_sha256=self.tokenizer_sha256,
        )

    def target(self) -> Mixture:
        return Mixture([(self.stream("target/train.arrow"), 1.0)], self.shape.context)

    def identity(self, world: World, **more: Any) -> dict[str, Any]:
        """Everything that decides what a training computes, flat: a resumed training must agree in all of it."""
        sections = {self.job.stage: identity(self.job.section), "model": identity(self.job.model)}
        flat = {f"{name}.{key}": value for name, section in sections.items() for key, value in section.items()}
        return flat | {
            "world_size": world.world_size,
            "deepspeed": json.dumps(self.job.config_slice["deepspeed"], sort_keys=True),
            "tokenizer": self.tokenizer_sha256,
            "shards": self.job.fingerprints["shards"],
            **more,
        }
