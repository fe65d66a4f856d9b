"""Stage `shards`: the corpus' parts and the target's texts as token shards.

Parts are encoded by one process per core and written in their order by this one, so the shards do not depend on the
number of workers. A shard holds whole parts of one source. A shard that is there is complete, and says which parts it
holds: a stage that was killed goes on behind the last one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.corpus.parts import part_paths, read_part
from pipeline.errors import DataError
from pipeline.execution.worker_pool import WorkerPool, worker_pool
from pipeline.graph.work import Work
from pipeline.runtime.progress import Task
from pipeline.tokens.contamination_check import ngrams_left
from pipeline.tokens.shard import Rows, ShardInfo, read_info, shard_name, write_shard
from pipeline.tokens.tokenizer import END_OF_TEXT, Tokenizer, load_tokenizer, tokenizer_of_process

SPLITS = ("train", "validation")
TARGET_TEXTS = ("train", "selection", "validation")


class EncodedPart(NamedTuple):
    """One part as tokens."""

    name: str
    source: str
    rows: Rows
    text_bytes: int


@dataclass(frozen=True)
class ShardSet:
    """Shards to write: `folder`/`split`-00000.arrow and so on, each of about `shard_bytes`, out of `parts`."""

    folder: Path
    split: str
    parts: Sequence[Path]
    tokenizer: Path
    shard_bytes: int

    def path(self, number: int) -> Path:
        return self.folder / f"{self.split}-{number:05d}.arrow"


def make_shards(work: Work) -> dict[str, Any]:
    """Write every shard; returns what they hold, and what of the target's validation text is in the corpus' shards."""
    for artifact in work.inputs.values():
        artifact.checked()
    counts: dict[str, Any] = {f"target_{part}": totals([info]) for part, info in write_target(work).items()}
    with worker_pool(work.workers) as pool:
        written = write_corpus(work, pool)
        counts |= {f"corpus_{split}": totals(infos) for split, infos in written.items()}
        counts["sources"] = by_source(written["train"])
        counts["val_ngrams_left_in_shards"] = ngrams_left(work, pool) if "corpus" in work.inputs else None
    return counts


def totals(infos: Iterable[ShardInfo]) -> dict[str, int]:
    """Documents, tokens (end-of-text ids too) and bytes of text of some shards."""
    shards = list(infos)
    return {
        "documents": sum(info.documents for info in shards),
        "tokens": sum(info.tokens for info in shards),
        "bytes": sum(info.text_bytes for info in shards),
    }


def by_source(infos: Sequence[ShardInfo]) -> dict[str, dict[str, int]]:
    sources = dict.fromkeys(info.source for info in infos)
    return {source: totals(info for info in infos if info.source == source) for source in sources}


def write_target(work: Work) -> dict[str, ShardInfo]:
    """The target's three texts, one document and one shard each."""
    tokenizer = load_tokenizer(work.inputs["tokenizer"].folder)
    folder = work.folder / "target"
    folder.mkdir(parents=True, exist_ok=True)
    infos = {}
    for part in TARGET_TEXTS:
        text = (work.inputs["target"].folder / f"{part}.txt").read_bytes().decode()
        encoded = EncodedPart(f"{part}.txt", "target", encode_rows(tokenizer, [part], [text]), len(text.encode()))
        infos[part] = _write(folder / f"{part}.arrow", [encoded], tokenizer)
    return infos


def write_corpus(work: Work, pool: WorkerPool) -> dict[str, list[ShardInfo]]:
    """The shards of both splits of the corpus; none in a run without a corpus."""
    if "corpus" not in work.inputs:
        return {split: [] for split in SPLITS}
    corpus = work.inputs["corpus"]
    tokenizer = work.inputs["tokenizer"].folder
    infos = {}
    with work.progress.task("encoding", corpus.manifest.counts["bytes_kept"], "bytes") as task:
        for split in SPLITS:
            parts = part_paths(corpus.folder, split)
            shards = ShardSet(work.folder / "corpus", split, parts, tokenizer, work.slice["shards"].shard_bytes)
            infos[split] = write_shards(shards, pool, task)
    return infos


def write_shards(shards: ShardSet, pool: WorkerPool, task: Task) -> list[ShardInfo]:
    """Write the shards that are not there yet; returns what all of them hold. `task` counts bytes of text."""
    shards.folder.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(shards.tokenizer)
    infos = finished_shards(shards, tokenizer)
    if infos:
        task.start_at(task.done + totals(infos)["bytes"])
    rest = shards.parts[sum(len(info.parts) for info in infos) :]
    encoded = pool.in_order(partial(encode_part, shards.tokenizer), rest)
    for group in _groups(encoded, shards.shard_bytes, task):
        infos.append(_write(shards.path(len(infos)), group, tokenizer))
    return infos


def finished_shards(shards: ShardSet, tokenizer: Tokenizer) -> list[ShardInfo]:
    """The shards that an interrupted run has left, as far as they are the first ones of this set."""
    infos: list[ShardInfo] = []
    names = [part.name for part in shards.parts]
    while (path := shards.path(len(infos))).exists():
        try:
            info = read_info(path)
        except DataError:
            break
        if info.tokenizer_sha256 != tokenizer.sha256 or list(info.parts) != names[: len(info.parts)]:
            break
        names = names[len(info.parts) :]
        infos.append(info)
    return infos


def _groups(encoded: Iterable[EncodedPart], shard_bytes: int, task: Task) -> Iterator[list[EncodedPart]]:
    """Consecutive parts of one source, until their tokens take `shard_bytes`."""
    group: list[EncodedPart] = []
    for part in encoded:
        if group and (part.source != group[0].source or _num_bytes(group) >= shard_bytes):
            yield group
            group = []
        group.append(part)
        task.advance(part.text_bytes)
    if group:
        yield group


def _num_bytes(group: Sequence[EncodedPart]) -> int:
    return sum(part.rows.tokens.nbytes for part in group)


def _write(path: Path, group: Sequence[EncodedPart], tokenizer: Tokenizer) -> ShardInfo:
    info = ShardInfo(
        name=shard_name(path),
        source=group[0].source,
        tokenizer_sha256=tokenizer.sha256,
        vocab_size=tokenizer.vocab_size,
        end_of_text=tokenizer.end_of_text,
        parts=tuple(part.name for part in group),
        documents=sum(len(part.rows.documents) for part in group),
        tokens=sum(len(part.rows.tokens) for part in group),
        text_bytes=sum(part.text_bytes for part in group),
    )
    write_shard(path, [part.rows for part in group], info)
    return info


def encode_part(tokenizer_folder: Path, part: Path) -> EncodedPart:
    """Read one part and encode it. Raises DataError if the part is damaged."""
    documents = list(read_part(part))
    texts = [document["text"] for document in documents]
    rows = encode_rows(tokenizer_of_process(tokenizer_folder), [document["id"] for document in documents], texts)
    return EncodedPart(part.name, documents[0]["source"], rows, sum(len(text.encode()) for text in texts))


def encode_rows(tokenizer: Tokenizer, names: list[str], texts: list[str]) -> Rows:
    """Texts as rows, each after an end-of-text id; decoded again at once and compared, where nothing may be lost."""
    tokens, offsets = tokenizer.encode_rows(texts)
    if tokenizer.kind == "bpe":
        expected = "".join(END_OF_TEXT + text for text in texts).encode()
        assert tokenizer.decode_bytes(tokens) == expected, f"the tokens of {names[0]} ... {names[-1]} lose text"
    return Rows(tokens, offsets, names)
