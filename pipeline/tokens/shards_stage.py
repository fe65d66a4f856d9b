"""Stage `shards`: the corpus' parts and the target's splits as token shards.

Parts are encoded by one process per core and written in their order by this one, so the shards do not depend on the
number of workers. A shard holds whole parts of one source. A shard that exists is complete and says which parts it
holds, so a killed stage continues after the last one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pipeline.corpus.parts import part_paths, read_part
from pipeline.corpus.splits import CORPUS_SPLITS
from pipeline.corpus.target_splits import TARGET_SPLITS, target_parts
from pipeline.errors import DataError
from pipeline.execution.worker_pool import WorkerPool, worker_pool
from pipeline.graph.stage_counts import CorpusCounts, ShardsCounts, TextTotals
from pipeline.graph.work import Work
from pipeline.runtime.progress import Task
from pipeline.tokens.contamination_check import ngrams_left
from pipeline.tokens.shard import Rows, ShardInfo, read_info, shard_name, target_shard, write_shard
from pipeline.tokens.tokenizer import END_OF_TEXT, Tokenizer, load_tokenizer, tokenizer_of_process


class EncodedFile(NamedTuple):
    """A part of the corpus, or the text of a target's split, as tokens. `name` is that of its file."""

    name: str
    source: str
    rows: Rows
    text_bytes: int  # UTF-8


@dataclass(frozen=True)
class ShardSet:
    """Shards to write: `folder`/`split`-00000.arrow and so on, each of about `shard_bytes`, out of `parts`."""

    folder: Path
    split: str
    parts: Sequence[Path]
    tokenizer: Path  # the folder of its artifact
    shard_bytes: int

    def path(self, number: int) -> Path:
        """Where shard `number`, counted from 0, is written."""
        return self.folder / f"{self.split}-{number:05d}.arrow"


def make_shards(work: Work) -> ShardsCounts:
    """Write every shard; returns what they hold, and how many n-grams of the target's validation text are left in them.

    Raises DataError if a file of an input is damaged.
    """
    # Hashed first: a swapped tokenizer or a damaged part would give shards that look sound.
    for artifact in work.inputs.values():
        artifact.checked()
    target = write_target(work)
    with worker_pool(work.workers) as pool:
        corpus = write_corpus(work, pool)
        left = ngrams_left(work, pool) if "corpus" in work.inputs else None
    return ShardsCounts(
        target_train=totals([target["train"]]),
        target_selection=totals([target["selection"]]),
        target_validation=totals([target["validation"]]),
        target_refit=totals([target["refit"]]),
        corpus_train=totals(corpus["train"]),
        corpus_validation=totals(corpus["validation"]),
        sources=by_source(corpus["train"]),
        val_ngrams_left_in_shards=left,
    )


def totals(infos: Iterable[ShardInfo]) -> TextTotals:
    """Documents, tokens (end-of-text ids included) and bytes of text of some shards."""
    shards = list(infos)
    return TextTotals(
        documents=sum(info.documents for info in shards),
        tokens=sum(info.tokens for info in shards),
        bytes=sum(info.text_bytes for info in shards),
    )


def by_source(infos: Sequence[ShardInfo]) -> dict[str, TextTotals]:
    """The totals of each source, in the order of the shards."""
    sources = dict.fromkeys(info.source for info in infos)
    return {source: totals(info for info in infos if info.source == source) for source in sources}


def write_target(work: Work) -> dict[str, ShardInfo]:
    """Write a shard for each of the target's splits, a row for each part; returns what each says about itself."""
    tokenizer = load_tokenizer(work.inputs["tokenizer"].folder)
    infos: dict[str, ShardInfo] = {}
    target = work.inputs["target"].folder
    for split in TARGET_SPLITS:
        shard = target_shard(work.folder, split)
        shard.parent.mkdir(parents=True, exist_ok=True)
        parts = target_parts(target, split)
        names = [f"{split}-{number}" for number in range(len(parts))]
        rows = encode_rows(tokenizer, names, parts)
        encoded = EncodedFile(split, "target", rows, sum(len(part.encode()) for part in parts))
        infos[split] = _write(shard, [encoded], tokenizer)
    return infos


def write_corpus(work: Work, pool: WorkerPool) -> dict[str, list[ShardInfo]]:
    """Write the shards of both splits of the corpus; none in a run without a corpus."""
    if "corpus" not in work.inputs:
        return {split: [] for split in CORPUS_SPLITS}
    corpus = work.inputs["corpus"]
    tokenizer = work.inputs["tokenizer"].folder
    infos = {}
    with work.progress.task("encoding", corpus.counts_as(CorpusCounts).bytes_kept, "bytes") as task:
        for split in CORPUS_SPLITS:
            parts = part_paths(corpus.folder, split)
            shards = ShardSet(work.folder / "corpus", split, parts, tokenizer, work.slice["shards"].shard_bytes)
            infos[split] = write_shards(shards, pool, task)
    return infos


def write_shards(shards: ShardSet, pool: WorkerPool, task: Task) -> list[ShardInfo]:
    """Write the shards that are missing; returns what every shard says about itself. `task` counts bytes of text."""
    shards.folder.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(shards.tokenizer)
    infos = finished_shards(shards, tokenizer)
    if infos:
        task.start_at(task.done + totals(infos).bytes)
    # Shards hold whole parts in order, so counting the parts of the finished ones says where to continue.
    rest = shards.parts[sum(len(info.parts) for info in infos) :]
    encoded = pool.in_order(partial(encode_part, shards.tokenizer), rest)
    for group in _groups(encoded, shards.shard_bytes, task):
        infos.append(_write(shards.path(len(infos)), group, tokenizer))
    return infos


def finished_shards(shards: ShardSet, tokenizer: Tokenizer) -> list[ShardInfo]:
    """The shards that an interrupted stage left, up to the first that is damaged or holds something else."""
    infos: list[ShardInfo] = []
    names = [part.name for part in shards.parts]
    while (path := shards.path(len(infos))).exists():
        try:
            info = read_info(path)
        except DataError:
            break
        # Another tokenizer or other parts: the stage's inputs were made again after it was interrupted.
        if info.tokenizer_sha256 != tokenizer.sha256 or list(info.parts) != names[: len(info.parts)]:
            break
        names = names[len(info.parts) :]
        infos.append(info)
    return infos


def _groups(encoded: Iterable[EncodedFile], shard_bytes: int, task: Task) -> Iterator[list[EncodedFile]]:
    """Consecutive parts of one source, until their tokens take `shard_bytes`."""
    group: list[EncodedFile] = []
    for part in encoded:
        if group and (part.source != group[0].source or _num_bytes(group) >= shard_bytes):
            yield group
            group = []
        group.append(part)
        task.advance(part.text_bytes)
    if group:
        yield group


def _num_bytes(group: Sequence[EncodedFile]) -> int:
    return sum(part.rows.tokens.nbytes for part in group)


def _write(path: Path, group: Sequence[EncodedFile], tokenizer: Tokenizer) -> ShardInfo:
    info = ShardInfo(
        name=shard_name(path),
        source=group[0].source,
        tokenizer_sha256=tokenizer.sha256,
        vocab_size=tokenizer.vocab_size,
        end_of_text=tokenizer.end_of_text,
        parts=tuple(file.name for file in group),
        text_bytes=sum(file.text_bytes for file in group),
    )
    return write_shard(path, [file.rows for file in group], info)


def encode_part(tokenizer_folder: Path, part: Path) -> EncodedFile:
    """Read one part and encode it, in a worker. Raises DataError if the part is damaged."""
    documents = list(read_part(part))
    texts = [document["text"] for document in documents]
    rows = encode_rows(tokenizer_of_process(tokenizer_folder), [document["id"] for document in documents], texts)
    return EncodedFile(part.name, documents[0]["source"], rows, sum(len(text.encode()) for text in texts))


def encode_rows(tokenizer: Tokenizer, names: list[str], texts: list[str]) -> Rows:
    """Texts as rows, each after an end-of-text id, with the documents' `names`.

    Byte-level BPE loses nothing, so its tokens are decoded again and compared; characters that the lecture's tokenizer
    does not know are lost by design.
    """
    tokens, offsets = tokenizer.encode_rows(texts)
    if tokenizer.kind == "bpe":
        expected = "".join(END_OF_TEXT + text for text in texts).encode()
        # A mistake here would silently spoil every training that follows.
        assert tokenizer.decode_bytes(tokens) == expected, f"the tokens of {names[0]} ... {names[-1]} lose text"
    return Rows(tokens, offsets, names)
