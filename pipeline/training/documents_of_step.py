"""Which documents a step of pretraining trained on: from the data order alone, without having recorded anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.training_sections import PretrainSection
from pipeline.distributed.job import JOB, Job
from pipeline.errors import ConfigError, DataError
from pipeline.tokens.batches import Batches
from pipeline.tokens.tokenizer import load_tokenizer
from pipeline.training.inputs import TrainingInputs


@dataclass(frozen=True)
class SampleSpan:
    """Part of a document in one sample of a step: its tokens `first` to `last`, both included, and their text."""

    step: int
    rank: int
    sample: int  # its number in the batch
    epoch: int
    source: str
    document: str
    first: int
    last: int
    text: str


def spans_of_step(artifact: Path, step: int, ranks: int) -> Iterator[SampleSpan]:
    """The documents of one step of a pretrain artifact, in order, as `ranks` ranks share them.

    Raises DataError if pretraining has not begun there, ConfigError for a step outside it.
    """
    if not (artifact / JOB).is_file():
        raise DataError(f"{artifact} does not exist: pretraining has not begun.", remedy="Run stage pretrain first.")
    job = Job.read(artifact / JOB)
    inputs, section = TrainingInputs.of(job), job.section
    assert isinstance(section, PretrainSection), "a pretrain artifact holds a pretrain job"
    steps = section.steps
    if not 0 <= step < steps:
        raise ConfigError(f"--step {step} is not one of this run's {steps:,} steps.", remedy=f"Give 0 to {steps - 1}.")
    batches = Batches(inputs.corpus(), batch_samples=section.batch_tokens // inputs.shape.context, seed=section.seed)
    tokenizer = load_tokenizer(job.input("tokenizer"))
    samples = batches.samples_of_step(step)
    for index, sample in enumerate(samples):
        # Ranks take consecutive, equal parts of a batch (`Batches.samples_of_step`).
        rank = index * ranks // len(samples)
        tokens, at = batches.mixture.tokens(sample), 0
        for document, source, first, last in batches.mixture.documents(sample):
            text = tokenizer.decode(tokens[at : (at := at + last - first + 1)])
            yield SampleSpan(step, rank, index, sample.epoch, source, document, first, last, text)
