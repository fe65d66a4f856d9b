"""Which documents a step of pretraining trained on: from the data order alone, without having recorded anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.schema import PretrainSection
from pipeline.distributed.job import Job
from pipeline.errors import ConfigError, DataError
from pipeline.tokens.batches import Batches
from pipeline.tokens.tokenizer import load_tokenizer
from pipeline.training.inputs import TrainingInputs


@dataclass(frozen=True)
class Span:
    """Part of a document in one sample of a step: its tokens `first` to `last`, both included, and their text."""

    step: int
    rank: int
    sample: int
    epoch: int
    source: str
    document: str
    first: int
    last: int
    text: str


def spans_of_step(artifact: Path, step: int, ranks: int) -> Iterator[Span]:
    """The documents of one step of a pretrain artifact, in order, as `ranks` ranks share them.

    Raises DataError if pretraining has not begun there, ConfigError for a step outside it.
    """
    if not (artifact / "job.json").is_file():
        raise DataError(f"{artifact} does not exist: pretraining has not begun.", remedy="Run stage pretrain first.")
    job = Job.read(artifact / "job.json")
    ground, section = TrainingInputs.of(job), job.section
    assert isinstance(section, PretrainSection), "a pretrain artifact holds a pretrain job"
    steps = section.tokens // section.batch_tokens
    if not 0 <= step < steps:
        raise ConfigError(f"--step {step} is not one of this run's {steps:,} steps.", remedy=f"Give 0 to {steps - 1}.")
    batches = Batches(ground.corpus(), batch_samples=section.batch_tokens // ground.shape.context, seed=section.seed)
    tokenizer = load_tokenizer(job.input("tokenizer"))
    samples = batches.samples_of_step(step)
    for index, sample in enumerate(samples):
        tokens, at = batches.mixture.tokens(sample), 0
        for document, source, first, last in batches.mixture.documents(sample):
            text = tokenizer.decode(tokens[at : (at := at + last - first + 1)])
            yield Span(step, index * ranks // len(samples), index, sample.epoch, source, document, first, last, text)
