from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config.text_sections import ShardsSection, TokenizerSection
from pipeline.corpus.parts import PartWriter, document_line
from pipeline.graph.stage_counts import CorpusCounts, StageCounts
from pipeline.graph.work import Artifact, Work
from pipeline.tokens.contamination_check import shared_ngrams
from pipeline.tokens.shards_stage import make_shards
from pipeline.tokens.tokenizer_stage import make_tokenizer
from tests.pipeline.written_target import write_target

Finished = Callable[..., Artifact]
CorpusCounted = Callable[[int, int | None], CorpusCounts]

VERSE = "The quality of mercy is not strained it droppeth as the gentle rain from heaven upon"  # 16 words


@pytest.fixture
def work(tmp_path: Path, work_of: Callable[..., Work], finished: Finished, corpus_counts: CorpusCounted) -> Work:
    """A validation text of four 13-grams, and a corpus whose validation split quotes them all."""
    target = tmp_path / "target"
    target.mkdir()
    write_target(target, train=VERSE * 5, selection="none", validation=f"{VERSE}\n")
    corpus = tmp_path / "corpus"
    documents = [
        f"He said: {VERSE.upper().replace(' is ', ' IS, ')}!",
        "sunshine " + " ".join(VERSE.split()[:12]),
        " " + " ".join(VERSE.split()[12:]) + " us all",  # goes on where the one before ends, but is another document
    ]
    for split, texts in {"train": documents[1:], "validation": documents[:1]}.items():
        writer = PartWriter(corpus / split, 0)
        for number, text in enumerate(texts):
            writer.add(document_line({"id": f"{split}-{number}", "source": "books", "text": text}))
        writer.flush()
    inputs = [finished("target", target, StageCounts()), finished("corpus", corpus, corpus_counts(1000, 13))]
    tokenizer = work_of("tokenizer", *inputs, section=TokenizerSection(vocab_size=300))
    inputs.append(finished("tokenizer", tokenizer.folder, make_tokenizer(tokenizer)))
    return work_of("shards", *inputs, section=ShardsSection())


def test_quotation_in_the_shards_is_counted_by_ngram(work: Work) -> None:
    """16 words are four 13-grams; twelve words of them, or their end running into the next row, are none."""
    assert make_shards(work).val_ngrams_left_in_shards == 4


@pytest.mark.parametrize(("ngram_words", "left"), [(16, 1), (15, 2), (None, 4)])
def test_length_is_that_of_the_decontamination_or_the_default(
    work: Work, finished: Finished, corpus_counts: CorpusCounted, ngram_words: int | None, left: int
) -> None:
    folder = work.inputs["corpus"].folder
    changed = finished("corpus", folder, corpus_counts(1000, ngram_words))
    counts = make_shards(replace(work, inputs={**work.inputs, "corpus": changed}))
    assert counts.val_ngrams_left_in_shards == left


def test_record_batch_is_searched_document_by_document(work: Work) -> None:
    make_shards(work)
    text = work.inputs["target"].folder / "validation.txt"
    tokenizer = work.inputs["tokenizer"].folder
    train, validation = (work.folder / "corpus" / f"{split}-00000.arrow" for split in ("train", "validation"))
    assert len(shared_ngrams(tokenizer, text, 13, (validation, 0))) == 4
    assert shared_ngrams(tokenizer, text, 13, (train, 0)) == set()
    assert len(shared_ngrams(tokenizer, text, 12, (train, 0))) == 1
