from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.schema import ShardsSection, TokenizerSection
from pipeline.corpus.parts import PartWriter, document_line
from pipeline.graph.work import Artifact, Work
from pipeline.tokens import shards_stage, tokenizer_stage

VERSE = "The quality of mercy is not strained it droppeth as the gentle rain from heaven upon"  # 16 words


@pytest.fixture
def work(tmp_path: Path, work_of: Callable[..., Work], finished: Callable[..., Artifact]) -> Work:
    """A validation text of four 13-grams, and a corpus whose validation split quotes them all."""
    target = tmp_path / "target"
    target.mkdir()
    for part, text in {"train": VERSE * 5, "selection": "none", "validation": f"{VERSE}\n"}.items():
        (target / f"{part}.txt").write_text(text)
    corpus = tmp_path / "corpus"
    documents = [
        f"He said: {VERSE.upper().replace(' is ', ' IS, ')}!",
        " ".join(VERSE.split()[:12]) + " sunshine",
        " ".join(VERSE.split()[12:]) + " us all",
    ]
    for split, texts in {"train": documents[1:], "validation": documents[:1]}.items():
        writer = PartWriter(corpus / split, 0)
        for number, text in enumerate(texts):
            writer.add(document_line({"id": f"{split}-{number}", "source": "books", "text": text}))
        writer.flush()
    counts: dict[str, Any] = {"bytes_kept": 1000, "contamination": {"ngram_words": 13}}
    inputs = [finished("target", target, {}), finished("corpus", corpus, counts)]
    tokenizer = work_of("tokenizer", *inputs, section=TokenizerSection(vocab_size=300))
    inputs.append(finished("tokenizer", tokenizer.folder, tokenizer_stage.make_tokenizer(tokenizer)))
    return work_of("shards", *inputs, section=ShardsSection())


def test_quotation_in_the_shards_is_counted_by_ngram(work: Work) -> None:
    """16 words are four 13-grams; twelve words of them, or their end running into the next row, are none."""
    assert shards_stage.make_shards(work)["val_ngrams_left_in_shards"] == 4


def test_ngram_length_is_that_of_the_decontamination(work: Work) -> None:
    corpus = work.inputs["corpus"]
    counts = corpus.manifest.counts | {"contamination": {"ngram_words": 16}}
    changed = replace(corpus, manifest=corpus.manifest.model_copy(update={"counts": counts}))
    assert (
        shards_stage.make_shards(replace(work, inputs={**work.inputs, "corpus": changed}))["val_ngrams_left_in_shards"]
        == 1
    )


def test_switched_off_decontamination_is_still_counted_at_the_default_length(work: Work) -> None:
    corpus = work.inputs["corpus"]
    counts = corpus.manifest.counts | {"contamination": {"ngram_words": None}}
    changed = replace(corpus, manifest=corpus.manifest.model_copy(update={"counts": counts}))
    assert (
        shards_stage.make_shards(replace(work, inputs={**work.inputs, "corpus": changed}))["val_ngrams_left_in_shards"]
        == 4
    )
