"""How much of the target's validation text finished shards contain: read back, decoded and searched.

The corpus was searched when it was cleaned; this is the same question asked of the very tokens that training reads.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path

from pipeline.config.text_sections import DecontaminateSection
from pipeline.corpus.contamination import Ngram, ngrams_of_file
from pipeline.corpus.target_splits import target_file
from pipeline.execution.worker_pool import WorkerPool
from pipeline.graph.stage_counts import CorpusCounts
from pipeline.graph.work import Work
from pipeline.tokens.shard import num_record_batches, read_rows
from pipeline.tokens.tokenizer import tokenizer_of_process


def ngrams_left(work: Work, pool: WorkerPool) -> int:
    """How many distinct n-grams of the target's validation text the corpus' shards contain.

    Their length is that of the decontamination; where that was switched off, its default, so that the size of the leak
    is known.
    """
    contamination = work.inputs["corpus"].counts_as(CorpusCounts).contamination
    ngram_words = contamination.ngram_words or DecontaminateSection().ngram_words
    text_file = target_file(work.inputs["target"].folder, "validation")
    search = partial(shared_ngrams, work.inputs["tokenizer"].folder, text_file, ngram_words)
    paths = sorted((work.folder / "corpus").glob("*.arrow"))
    # By record batch and not by shard: there are few shards, and the last one would keep a single worker busy.
    record_batches = [(path, index) for path in paths for index in range(num_record_batches(path))]
    left: set[Ngram] = set()
    with work.progress.task("searching the shards", len(record_batches), "batches") as task:
        for ngrams in pool.in_order(search, record_batches):
            left |= ngrams
            task.advance()
    return len(left)


def shared_ngrams(
    tokenizer_folder: Path, text_file: Path, ngram_words: int, record_batch: tuple[Path, int]
) -> set[Ngram]:
    """The n-grams that the documents of a record batch (shard, index) share with a text file."""
    tokenizer = tokenizer_of_process(tokenizer_folder)
    wanted = ngrams_of_file(text_file, ngram_words)
    rows = read_rows(*record_batch)
    # Document by document, without the end-of-text id: words on both sides of a border are not an n-gram.
    documents = (rows.tokens[start + 1 : stop] for start, stop in pairwise(rows.offsets.tolist()))
    return {ngram for tokens in documents for ngram in wanted.shared_with(tokenizer.decode_bytes(tokens))}
