"""Token shards: Arrow IPC files with one row per document, written once and then read through a memory map.

    tokens    list<uint16 | uint32>   the end-of-text id, then the document's tokens
    source    dictionary<string>      where the document comes from
    document  string                  its id

The schema's metadata carries `ShardInfo`. Rows are grouped in Arrow record batches that are bounded in documents and in
tokens, because documents range from three kilobytes to megabytes. Since each row begins with the end-of-text id, the
rows of any shards, one after another, are a well-formed stream to train on: that is what `TokenStream` offers.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.runtime.files import replacing

FORMAT = 1
METADATA_KEY = b"folio"
RECORD_BATCH_DOCUMENTS = 4096
RECORD_BATCH_TOKENS = 1 << 22  # a longer document stays whole, in a record batch by itself

REMEDY = "Delete the folder of that shard and run stage shards again, or restore the file."


@dataclass(frozen=True)
class ShardInfo:
    """What a shard says about itself.

    `name` is its place, such as "corpus/train-00003", so that swapped files are noticed. `parts` are the text files it
    was made from. `tokens` includes end-of-text ids; `text_bytes` is the size of the text in UTF-8.
    """

    name: str
    source: str
    tokenizer_sha256: str
    vocab_size: int
    end_of_text: int
    parts: tuple[str, ...] = ()
    documents: int = 0
    tokens: int = 0
    text_bytes: int = 0
    format: int = FORMAT


class Rows(NamedTuple):
    """Documents as tokens: row i is tokens[offsets[i] : offsets[i + 1]] and begins with the end-of-text id."""

    tokens: NDArray[np.unsignedinteger]
    offsets: NDArray[np.int64]  # one more than documents
    documents: list[str]


class DocumentSpan(NamedTuple):
    """The tokens `first` to `last` (both included) of a document's row, whose token 0 is the end-of-text id."""

    document: str
    source: str
    first: int
    last: int


def token_dtype(vocab_size: int) -> np.dtype[np.unsignedinteger]:
    """The smallest type of a shard's tokens that holds every id."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


def write_shard(path: Path, rows: Sequence[Rows], info: ShardInfo) -> ShardInfo:
    """Write a shard so that `path` is either absent or complete; equal arguments give equal bytes.

    Its rows are those of `rows`, in order. Returns `info` as it was written: with documents and tokens counted.
    """
    num_tokens = sum(len(piece.tokens) for piece in rows)
    info = replace(info, documents=sum(len(piece.documents) for piece in rows), tokens=num_tokens)
    schema = _schema(info)
    with replacing(path) as draft, draft.open("wb") as file, pa.ipc.new_file(file, schema) as writer:
        for piece in rows:
            for record_batch in _record_batches(piece, info.source, schema):
                writer.write_batch(record_batch)
    return info


def read_info(path: Path) -> ShardInfo:
    """What a shard says about itself. Raises DataError naming the file if it is missing, truncated or not a shard."""
    with _opened(path) as reader:
        return _info(path, reader.schema)


def num_record_batches(path: Path) -> int:
    """How many record batches a shard has. Raises DataError as `read_info` does."""
    with _opened(path) as reader:
        return int(reader.num_record_batches)


def read_rows(path: Path, index: int) -> Rows:
    """The rows of one record batch, mapped and not copied. Raises DataError as `read_info` does."""
    with _opened(path) as reader:
        batch = _record_batch(path, reader, index)
    return Rows(_tokens(batch), batch.column("tokens").offsets.to_numpy(), batch.column("document").to_pylist())


def refuse_impossible_rows(path: Path) -> None:
    """Read a shard through; raise DataError naming file and place if its rows cannot be what its stage wrote.

    A hash tells that a file is the one that was written, and this that it made sense: token ids are in the vocabulary,
    rows begin and end inside of the file, and there are as many as the shard says.
    """
    with _opened(path) as reader:
        info = _info(path, reader.schema)
        num_documents = num_tokens = 0
        for index in range(reader.num_record_batches):
            batch = _record_batch(path, reader, index)
            try:
                batch.validate(full=True)
            except pa.ArrowException as error:
                raise DataError(
                    f"Token shard {path} is damaged, record batch {index}: {error}.", remedy=REMEDY
                ) from None
            tokens = _tokens(batch)
            num_documents, num_tokens = num_documents + batch.num_rows, num_tokens + len(tokens)
            if len(tokens) and tokens.max() >= info.vocab_size:
                at = int(np.argmax(tokens >= info.vocab_size))
                [span] = _spans(batch, at, at + 1)
                raise DataError(
                    f"Token shard {path}: token {span.first} of document {span.document} is {tokens[at]:,}, "
                    f"the vocabulary has {info.vocab_size:,} ids.",
                    remedy=REMEDY,
                )
        if (num_documents, num_tokens) != (info.documents, info.tokens):
            raise DataError(
                f"Token shard {path} holds {num_documents:,} documents and {num_tokens:,} tokens, and says "
                f"{info.documents:,} and {info.tokens:,}.",
                remedy=REMEDY,
            )


def _schema(info: ShardInfo) -> pa.Schema:
    tokens = pa.list_(pa.from_numpy_dtype(token_dtype(info.vocab_size)))
    columns = {"tokens": tokens, "source": pa.dictionary(pa.int32(), pa.string()), "document": pa.string()}
    return pa.schema(columns, metadata={METADATA_KEY: json.dumps(asdict(info), sort_keys=True)})


def _record_batches(rows: Rows, source: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows in record batches within both bounds; a document longer than RECORD_BATCH_TOKENS is one by itself."""
    start = 0
    while start < len(rows.documents):
        # The first row that no longer fits; at least one row is taken, however long it is.
        room = int(np.searchsorted(rows.offsets, rows.offsets[start] + RECORD_BATCH_TOKENS, side="right")) - 1
        stop = min(max(room, start + 1), start + RECORD_BATCH_DOCUMENTS, len(rows.documents))
        offsets = rows.offsets[start : stop + 1]
        values = rows.tokens[offsets[0] : offsets[-1]].astype(schema.field("tokens").type.value_type.to_pandas_dtype())
        tokens = pa.ListArray.from_arrays(pa.array((offsets - offsets[0]).astype(np.int32)), pa.array(values))
        # A dictionary of one name: the source then takes four bytes per row instead of its name.
        indices = pa.array(np.zeros(stop - start, np.int32))
        sources = pa.DictionaryArray.from_arrays(indices, pa.array([source]))
        yield pa.record_batch([tokens, sources, pa.array(rows.documents[start:stop], pa.string())], schema=schema)
        start = stop


def _opened(path: Path) -> pa.ipc.RecordBatchFileReader:
    # The format ends with a footer, so a truncated file is refused here, before anything is read from it.
    try:
        return pa.ipc.open_file(pa.memory_map(str(path)))
    except FileNotFoundError:
        raise DataError(f"Token shard {path} is missing.", remedy=REMEDY) from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"Token shard {path} is truncated or damaged ({error}).", remedy=REMEDY) from None


def _info(path: Path, schema: pa.Schema) -> ShardInfo:
    try:
        values: dict[str, Any] = json.loads((schema.metadata or {})[METADATA_KEY])
        # JSON gave a list, and equal shards must give equal infos.
        info = ShardInfo(**values | {"parts": tuple(values["parts"])})
    except (KeyError, ValueError, TypeError):
        raise DataError(f"{path} is an Arrow file, but not a token shard of this program.", remedy=REMEDY) from None
    if info.format != FORMAT:
        raise DataError(f"Token shard {path} has format {info.format}, not {FORMAT}.", remedy=REMEDY)
    if info.name != shard_name(path):
        raise DataError(f"Token shard {path} holds {info.name}: two files were swapped.", remedy=REMEDY)
    return info


def target_shard(shards: Path, split: str) -> Path:
    """The shard of a split of the target, below the folder of a shards artifact."""
    return shards / "target" / f"{split}.arrow"


def shard_name(path: Path) -> str:
    """A shard's place below its artifact: "target/train", "corpus/train-00003"."""
    return f"{path.parent.name}/{path.stem}"


class TokenStream:
    """The rows of some shards as one long sequence of tokens, read where they lie: opening reads no tokens."""

    def __init__(self, batches: Sequence[pa.RecordBatch], infos: Sequence[ShardInfo]) -> None:
        self.infos = tuple(infos)
        self._batches = tuple(batches)
        self._tokens = [_tokens(batch) for batch in batches]
        # Where each record batch begins in the stream, and at last the stream's length.
        self._starts = list(accumulate((len(tokens) for tokens in self._tokens), initial=0))

    @classmethod
    def open(
        cls, paths: Sequence[Path], *, tokenizer_sha256: str | None = None, source: str | None = None
    ) -> TokenStream:
        """Open shards in the given order, or only those of one source.

        Raises DataError naming the file if one is missing, truncated, damaged, in another's place, or if it was written
        with another tokenizer than `tokenizer_sha256` (both hashes are named).
        """
        batches: list[pa.RecordBatch] = []
        infos: list[ShardInfo] = []
        for path in paths:
            reader = _opened(path)
            info = _info(path, reader.schema)
            _check_tokenizer(path, info, tokenizer_sha256)
            if source in (None, info.source):
                batches += [_record_batch(path, reader, index) for index in range(reader.num_record_batches)]
                infos.append(info)
        return cls(batches, infos)

    def __len__(self) -> int:
        return self._starts[-1]

    def window(self, start: int, length: int) -> NDArray[np.unsignedinteger]:
        """Tokens start ... start + length - 1: a read-only view if they lie in one record batch, else a copy."""
        assert start >= 0 and start + length <= len(self), f"window {start}+{length} leaves {len(self)} tokens"
        index = bisect_right(self._starts, start) - 1
        # Only an empty window can begin at the end of the stream.
        if index == len(self._tokens):
            return np.empty(0, np.uint16)
        local = start - self._starts[index]
        piece = self._tokens[index][local : local + length]
        if len(piece) == length:
            return piece
        # The window crosses into later record batches: take them whole up to the last one, then cut.
        stop = bisect_right(self._starts, start + length - 1)
        return np.concatenate([piece, *self._tokens[index + 1 : stop]])[:length]

    def documents_of(self, start: int, length: int) -> list[DocumentSpan]:
        """The documents that tokens start ... start + length - 1 belong to, in order."""
        spans = []
        stop = start + length
        for index in range(bisect_right(self._starts, start) - 1, bisect_right(self._starts, stop - 1)):
            begin = self._starts[index]
            end = min(stop, self._starts[index + 1])
            spans += _spans(self._batches[index], max(start, begin) - begin, end - begin)
        return spans


def _record_batch(path: Path, reader: pa.ipc.RecordBatchFileReader, index: int) -> pa.RecordBatch:
    try:
        return reader.get_batch(index)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"Token shard {path} is truncated or damaged ({error}).", remedy=REMEDY) from None


def _tokens(batch: pa.RecordBatch) -> NDArray[np.unsignedinteger]:
    """All tokens of a record batch, where they lie."""
    # zero_copy_only, so that a change in Arrow that copied gigabytes would be an error and not just slow.
    tokens: NDArray[np.unsignedinteger] = batch.column("tokens").flatten().to_numpy(zero_copy_only=True)
    return tokens


def _check_tokenizer(path: Path, info: ShardInfo, expected: str | None) -> None:
    if expected is not None and info.tokenizer_sha256 != expected:
        raise DataError(
            f"Token shard {path} was written with tokenizer {info.tokenizer_sha256}, this run has {expected}.",
            remedy="Restore that tokenizer, or run stage shards again.",
        )


def _spans(batch: pa.RecordBatch, start: int, stop: int) -> list[DocumentSpan]:
    """The documents of tokens start ... stop - 1 of a record batch."""
    offsets = batch.column("tokens").offsets.to_numpy()
    rows = range(int(np.searchsorted(offsets, start, side="right")) - 1, int(np.searchsorted(offsets, stop)))
    sources, documents = batch.column("source"), batch.column("document")
    return [
        DocumentSpan(
            documents[row].as_py(),
            sources[row].as_py(),
            first=max(start - int(offsets[row]), 0),
            last=min(stop, int(offsets[row + 1])) - int(offsets[row]) - 1,
        )
        for row in rows
    ]
