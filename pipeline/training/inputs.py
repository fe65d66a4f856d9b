"""The inputs that every training of a job reads: tokenizer, shards, model shape."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt.model import GPT, GPTShape
from pipeline.corpus.target_splits import Split
from pipeline.distributed.job import Job
from pipeline.errors import DataError
from pipeline.graph.fingerprints import identity
from pipeline.saved_models.model_files import WEIGHTS
from pipeline.saved_models.weights import load_weights
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
        """Open the inputs of a job; `dropout` overrides the model's. Raises DataError if the tokenizer is damaged."""
        tokenizer = load_tokenizer(job.input("tokenizer"))
        return cls(job, job.model.shape(tokenizer.vocab_size, dropout, tokenizer.end_of_text), tokenizer.sha256)

    def stream(self, pattern: str) -> TokenStream:
        """The shards below the shards stage's folder that match, as one row of tokens. Raises DataError if none do."""
        paths = sorted(self.job.input("shards").glob(pattern))
        if not paths:
            raise DataError(f"{self.job.input('shards')} has no {pattern}.", remedy="Run stage shards again.")
        return TokenStream.open(paths, tokenizer_sha256=self.tokenizer_sha256)

    def held_out(self) -> TokenStream | None:
        """The corpus' validation split; None if nothing of the corpus was held out."""
        # The shards' manifest was compared with its files before any rank started, so none is missing by accident.
        paths = sorted(self.job.input("shards").glob("corpus/validation-*.arrow"))
        stream = TokenStream.open(paths, tokenizer_sha256=self.tokenizer_sha256)
        return stream if len(stream) > 1 else None  # a single token predicts nothing

    def corpus(self) -> Mixture:
        """The corpus' train split. Each source is repeated by its weight (default 1)."""
        return corpus_mixture(
            self.job.input("shards"),
            "train",
            self.job.config_slice["weights"],
            context=self.shape.context,
            tokenizer_sha256=self.tokenizer_sha256,
        )

    def target(self, split: Split) -> Mixture:
        """A split of the target that is trained on: "train" or "refit"."""
        return Mixture([(self.stream(f"target/{split}.arrow"), 1.0)], self.shape.context)

    def first_model(self, seed: int, start: Path | None = None) -> GPT:
        """The model before the first step: drawn from the seed, or for finetune the weights in `start`.

        `start` is a weights file, by default the one that pretraining ended with; the seed then changes nothing here.
        """
        model = GPT(self.shape)
        # By stage and not by the presence of an input: scratch must start at random weights, whatever lies around.
        if self.job.stage != "finetune":
            return model.initialize(seed)
        load_weights(start or self.job.input("pretrain") / WEIGHTS, model)
        return model

    def identity(self, **more: Any) -> dict[str, Any]:
        """Everything that decides what a training computes, flat: a resumed training must agree in all of it."""
        sections = {self.job.stage: identity(self.job.section), "model": identity(self.job.model)}
        flat = {f"{name}.{key}": value for name, section in sections.items() for key, value in section.items()}
        return flat | {
            "deepspeed": json.dumps(self.job.config_slice["deepspeed"], sort_keys=True),
            "tokenizer": self.tokenizer_sha256,
            "shards": self.job.fingerprints["shards"],
            **more,
        }
