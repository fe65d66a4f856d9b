"""`folio data show` names what the ranks of a step really train on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.config.training_sections import PretrainSection
from pipeline.distributed.job import Job
from pipeline.errors import ConfigError, DataError
from pipeline.tokens.batches import Batches
from pipeline.tokens.tokenizer import load_tokenizer
from pipeline.training.documents_of_step import SampleSpan, spans_of_step
from pipeline.training.inputs import TrainingInputs

STEP, RANKS, SAMPLES = 5, 2, 8


@pytest.fixture
def job(job_in: Callable[..., Job], tmp_path: Path) -> Job:
    return job_in(tmp_path / "pretrain", "pretrain")


@pytest.fixture
def spans(job: Job) -> list[SampleSpan]:
    return list(spans_of_step(Path(job.folder), STEP, RANKS))


def of_sample(spans: Sequence[SampleSpan], sample: int) -> list[SampleSpan]:
    return [span for span in spans if span.sample == sample]


def test_spans_hold_the_text_that_each_rank_is_fed(job: Job, spans: list[SampleSpan]) -> None:
    inputs, section = TrainingInputs.of(job), job.section
    assert isinstance(section, PretrainSection)
    batches = Batches(inputs.corpus(), batch_samples=SAMPLES, seed=section.seed)
    tokenizer = load_tokenizer(job.input("tokenizer"))
    for rank in range(RANKS):
        [(fed_inputs, targets)] = batches.of_step(STEP, rank=rank, world_size=RANKS, micro_batch=SAMPLES // RANKS)
        for row in range(SAMPLES // RANKS):
            sample = of_sample(spans, rank * SAMPLES // RANKS + row)
            fed = tokenizer.decode([*fed_inputs[row], targets[row][-1]])
            assert "".join(span.text for span in sample) == fed
            assert {span.rank for span in sample} == {rank}


def test_spans_name_the_place_in_the_document(job: Job, spans: list[SampleSpan]) -> None:
    tokenizer, whole = load_tokenizer(job.input("tokenizer")), tokens_of_documents(job)
    assert len({span.document for span in spans}) > 1
    for span in spans:
        assert tokenizer.decode(whole[span.document][span.first : span.last + 1]) == span.text
        assert span.document.startswith(f"{span.source}-")


def tokens_of_documents(job: Job) -> dict[str, list[int]]:
    """Every document of the corpus, straight from the shards."""
    tables = [pa.ipc.open_file(path).read_all() for path in (job.input("shards") / "corpus").glob("train-*.arrow")]
    return {
        document: tokens
        for table in tables
        for document, tokens in zip(table["document"].to_pylist(), table["tokens"].to_pylist(), strict=True)
    }


def test_step_outside_the_training_is_refused(job: Job) -> None:
    with pytest.raises(ConfigError, match=r"--step 8 is not one of this run's 8 steps\. Give 0 to 7\."):
        next(spans_of_step(Path(job.folder), 8, RANKS))


def test_training_that_has_not_begun_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="pretraining has not begun"):
        next(spans_of_step(tmp_path, 0, 1))
