"""What finished shards contain of the target's validation text: read back, decoded and searched, not assumed."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path

from pipeline.config.schema import DecontaminateSection
from pipeline.corpus.contamination import Ngram, ngrams_of_file
from pipeline.execution.worker_pool import WorkerPool
from pipeline.graph.work import Work
from pipeline.tokens.shard import num_batches, read_rows
from pipeline.tokens.tokenizer import tokenizer_of_process


def ngrams_left(work: Work, pool: WorkerPool) -> int:
    """How many distinct n-grams of the target's validation text the corpus' shards hold.

    The length is that of the decontamination; where that was switched off, its default, so that the number is known.
    """
    words = work.inputs["corpus"].manifest.counts["contamination"]["ngram_words"] or DecontaminateSection().ngram_words
    shared = partial(
        shared_ngrams, work.inputs["tokenizer"].folder, work.inputs["target"].folder / "validation.txt", words
    )
    paths = sorted((work.folder / "corpus").glob("*.arrow"))
    places = [(path, index) for path in paths for index in range(num_batches(path))]
    found: set[Ngram] = set()
    with work.progress.task("searching the shards", len(places), "batches") as task:
        for ngrams in pool.in_order(shared, places):
            found |= ngrams
            task.advance()
    return len(found)


def shared_ngrams(tokenizer_folder: Path, text: Path, words: int, place: tuple[Path, int]) -> set[Ngram]:
    """The n-grams that one record batch of a shard shares with a text file."""
    tokenizer = tokenizer_of_process(tokenizer_folder)
    wanted = ngrams_of_file(text, words)
    rows = read_rows(*place)
    documents = (rows.tokens[start + 1 : stop] for start, stop in pairwise(rows.offsets.tolist()))
    return {ngram for tokens in documents for ngram in wanted.shared_with(tokenizer.decode_bytes(tokens))}
