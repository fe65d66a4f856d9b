"""Stage `tokenizer`: byte-level BPE trained on a sample of the corpus and the target, or the lecture's characters.

The sample is drawn in stretches of a few kilobytes, each kept or not by a hash of its place: whole documents can be
megabytes, and a sample of a few of those would be uneven. BPE never sees the target's selection and validation text.
The same config and text give the same file, byte for byte, whatever the number of workers and threads.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from pipeline.config.text_sections import TokenizerSection
from pipeline.corpus.parts import part_paths, read_part
from pipeline.corpus.target_splits import target_text
from pipeline.execution.worker_pool import worker_pool
from pipeline.graph.stage_counts import CorpusCounts, TokenizerCounts
from pipeline.graph.work import Work
from pipeline.runtime.files import write_text
from pipeline.tokens.data_order import order_key
from pipeline.tokens.tokenizer import END_OF_TEXT, TOKENIZER_FILE, Tokenizer, load_tokenizer

TARGET = "target"  # its name among the sources in the counts
STRETCH_CHARACTERS = 4096  # a stretch ends with the first line that ends after this many
MEASURED_BYTES = 4_000_000  # of each source, to count bytes per token


class SampledPart(NamedTuple):
    """What is drawn from one part: its share of the sample, and the bytes of text of the whole part."""

    source: str
    stretches: list[str]
    part_bytes: int


def make_tokenizer(work: Work) -> TokenizerCounts:
    """Write tokenizer.json. Raises DataError if a file of an input is damaged."""
    section: TokenizerSection = work.slice["tokenizer"]
    samples = corpus_samples(work, section)
    target = work.inputs["target"].checked().folder
    samples[TARGET] = [target_text(target, "train")]
    if section.kind == "char":
        # The lecture's alphabet is that of the whole text, validation included.
        content = characters("".join(target_text(target, split) for split in ("refit", "validation")))
    else:
        content = byte_pairs(list(chain.from_iterable(samples.values())), section.vocab_size)
    write_text(work.folder / TOKENIZER_FILE, content)
    tokenizer = load_tokenizer(work.folder)
    return TokenizerCounts(
        kind=tokenizer.kind,
        vocab_size=tokenizer.vocab_size,
        sha256=tokenizer.sha256,
        sample_bytes=sum(_num_bytes(texts) for texts in samples.values()),
        bytes_per_token={source: round(bytes_per_token(tokenizer, texts), 4) for source, texts in samples.items()},
    )


def corpus_samples(work: Work, section: TokenizerSection) -> dict[str, list[str]]:
    """About `sample_bytes` of the corpus' training split, by source; nothing in a run without a corpus."""
    samples: dict[str, list[str]] = defaultdict(list)
    if "corpus" not in work.inputs:
        return samples
    corpus = work.inputs["corpus"].checked()
    total = corpus.counts_as(CorpusCounts).bytes_kept
    draw = partial(drawn, share=min(section.sample_bytes / max(total, 1), 1.0), seed=section.seed)
    parts = part_paths(corpus.folder, "train")
    with worker_pool(work.workers) as pool, work.progress.task("sampling the corpus", total, "bytes") as task:
        for sample in pool.in_order(draw, parts):
            samples[sample.source] += sample.stretches
            task.advance(sample.part_bytes)
    return samples


def drawn(part: Path, *, share: float, seed: int) -> SampledPart:
    """The stretches of a part that belong to the sample: about `share` of them, whatever else is in the corpus."""
    documents = list(read_part(part))
    kept = [
        stretch
        for document in documents
        for number, stretch in enumerate(stretches(document["text"]))
        # By the document's id and not the part's name, so that parts of another size give the same sample.
        if order_key(seed, document["id"], number) < share * 2**64
    ]
    return SampledPart(documents[0]["source"], kept, sum(len(document["text"].encode()) for document in documents))


def stretches(text: str) -> Iterator[str]:
    """The text in consecutive stretches of whole lines; a very long line is cut."""
    start = 0
    while start < len(text):
        line_end = text.find("\n", start + STRETCH_CHARACTERS, start + 2 * STRETCH_CHARACTERS)
        stop = line_end + 1 or start + 2 * STRETCH_CHARACTERS
        yield text[start:stop]
        start = stop


def byte_pairs(texts: Sequence[str], vocab_size: int) -> str:
    """The `tokenizers` file of a byte-level BPE; ids are end-of-text, the 256 bytes, then the merges in order."""
    # No normalizer and no prefix space: every text must come back from its tokens unchanged.
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[END_OF_TEXT],
        # All 256 bytes, seen or not, so that any text can be encoded. Sorted: `alphabet()` comes in random order.
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return str(tokenizer.to_str(pretty=True)) + "\n"


def characters(text: str) -> str:
    """The file of the lecture's character tokenizer: every character of the text, sorted."""
    return json.dumps({"kind": "char", "format": 1, "characters": "".join(sorted(set(text)))}, indent=1) + "\n"


def bytes_per_token(tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    """UTF-8 bytes that one token stands for, over the first MEASURED_BYTES of the texts."""
    measured: list[str] = []
    size = 0
    for text in texts:
        if size < MEASURED_BYTES:
            measured.append(text)
            size += len(text.encode())
    tokens = sum(len(ids) for ids in tokenizer.encode_documents(measured))
    return size / max(tokens, 1)


def _num_bytes(texts: Sequence[str]) -> int:
    return sum(len(text.encode()) for text in texts)
