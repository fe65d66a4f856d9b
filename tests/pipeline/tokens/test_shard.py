from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest

from pipeline.errors import DataError
from pipeline.tokens import shard
from pipeline.tokens.shard import (
    DocumentSpan,
    Rows,
    ShardInfo,
    TokenStream,
    read_info,
    refuse_impossible_rows,
    token_dtype,
    write_shard,
)

EOT = 0


def rows_of(*documents: list[int], first: int = 0) -> Rows:
    offsets = np.cumsum([0] + [len(document) for document in documents])
    names = [f"d{first + number}" for number in range(len(documents))]
    return Rows(np.concatenate(documents).astype(np.uint32), offsets, names)


def info_of(path: Path, source: str = "books", vocab_size: int = 100) -> ShardInfo:
    return ShardInfo(shard.shard_name(path), source, tokenizer_sha256="a" * 64, vocab_size=vocab_size, end_of_text=EOT)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Two shards, three record batches, the tokens 0 1 2 3 | 0 4 || 0 5 6 7 | 0 8."""
    first, second = tmp_path / "corpus" / "train-00000.arrow", tmp_path / "corpus" / "train-00001.arrow"
    first.parent.mkdir()
    write_shard(first, [rows_of([EOT, 1, 2, 3]), rows_of([EOT, 4], first=1)], info_of(first))
    write_shard(second, [rows_of([EOT, 5, 6, 7], [EOT, 8], first=2)], info_of(second, source="plays"))
    return [first, second]


WHOLE = [0, 1, 2, 3, 0, 4, 0, 5, 6, 7, 0, 8]


def test_every_window_equals_the_concatenated_rows(paths: list[Path]) -> None:
    stream = TokenStream.open(paths)
    assert len(stream) == len(WHOLE)
    for start in range(len(WHOLE) + 1):
        for stop in range(start, len(WHOLE) + 1):
            assert stream.window(start, stop - start).tolist() == WHOLE[start:stop]


def test_window_in_one_batch_is_a_view_and_cannot_be_written(paths: list[Path]) -> None:
    stream = TokenStream.open(paths)
    assert np.shares_memory(stream.window(0, 3), stream.window(1, 2))
    assert not np.shares_memory(stream.window(3, 3), stream.window(3, 1))
    with pytest.raises(ValueError, match="read-only"):
        stream.window(0, 3)[0] = 1


def test_documents_of_names_rows_and_places(paths: list[Path]) -> None:
    stream = TokenStream.open(paths)
    assert stream.documents_of(2, 6) == [
        DocumentSpan("d0", "books", 2, 3),
        DocumentSpan("d1", "books", 0, 1),
        DocumentSpan("d2", "plays", 0, 1),
    ]
    assert stream.documents_of(9, 1) == [DocumentSpan("d2", "plays", 3, 3)]
    assert stream.documents_of(10, 2) == [DocumentSpan("d3", "plays", 0, 1)]


def test_source_opens_its_own_shards_only(paths: list[Path]) -> None:
    stream = TokenStream.open(paths, source="plays")
    assert stream.window(0, len(stream)).tolist() == WHOLE[6:]
    assert [info.source for info in stream.infos] == ["plays"]
    assert len(TokenStream.open(paths, source="nobody")) == 0


def test_shard_opens_in_pyarrow_and_datasets(paths: list[Path], tmp_path: Path) -> None:
    table = pa.ipc.open_file(str(paths[1])).read_all()
    table.validate(full=True)
    expected = [
        {"tokens": [0, 5, 6, 7], "source": "plays", "document": "d2"},
        {"tokens": [0, 8], "source": "plays", "document": "d3"},
    ]
    assert table.to_pylist() == expected
    assert table.schema.field("tokens").type == pa.list_(pa.uint16())
    assert table.schema.field("source").type == pa.dictionary(pa.int32(), pa.string())
    columns = {"path": "arrow", "data_files": str(paths[1]), "split": "train", "cache_dir": str(tmp_path / "cache")}
    assert datasets.load_dataset(**columns).to_list() == expected


def test_metadata_of_the_contract_is_in_the_schema(paths: list[Path]) -> None:
    assert read_info(paths[0]) == replace(info_of(paths[0]), documents=2, tokens=6)


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    path = tmp_path / "corpus" / "train.arrow"
    path.parent.mkdir()
    contents = set()
    for _ in range(2):
        write_shard(path, [rows_of([EOT, 1, 2, 3], [EOT])], info_of(path))
        contents.add(path.read_bytes())
    assert len(contents) == 1
    assert list(path.parent.iterdir()) == [path]


def test_batches_are_bounded_in_documents_and_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard, "RECORD_BATCH_DOCUMENTS", 3)
    monkeypatch.setattr(shard, "RECORD_BATCH_TOKENS", 10)
    path = tmp_path / "train.arrow"
    lengths = [1, 1, 1, 1, 25, 4, 6, 1]
    write_shard(path, [rows_of(*[[EOT] + [7] * (length - 1) for length in lengths])], info_of(path))
    with pa.ipc.open_file(str(path)) as reader:
        batches = [reader.get_batch(index).column("tokens") for index in range(reader.num_record_batches)]
    assert [[len(row) for row in batch] for batch in batches] == [[1, 1, 1], [1], [25], [4, 6], [1]]


def test_tokens_take_two_bytes_until_the_vocabulary_needs_four(tmp_path: Path) -> None:
    assert token_dtype(65_536) == np.uint16
    assert token_dtype(65_537) == np.uint32
    path = tmp_path / "train.arrow"
    write_shard(path, [rows_of([EOT, 70_000])], info_of(path, vocab_size=70_001))
    assert TokenStream.open([path]).window(0, 2).tolist() == [0, 70_000]


def test_empty_shard_is_an_empty_stream(tmp_path: Path) -> None:
    path = tmp_path / "train.arrow"
    write_shard(path, [], info_of(path))
    stream = TokenStream.open([path])
    assert len(stream) == 0
    assert stream.window(0, 0).tolist() == []


def test_truncation_anywhere_is_refused_by_name(paths: list[Path]) -> None:
    whole = paths[0].read_bytes()
    for size in [*range(0, len(whole), 7), len(whole) - 1]:
        paths[0].write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"train-00000\.arrow"):
            TokenStream.open(paths)


def test_missing_shard_is_refused_by_name(paths: list[Path]) -> None:
    paths[1].unlink()
    with pytest.raises(DataError, match=r"train-00001\.arrow is missing"):
        TokenStream.open(paths)


def test_swapped_shards_are_refused(paths: list[Path]) -> None:
    first, second = paths[0].read_bytes(), paths[1].read_bytes()
    paths[0].write_bytes(second)
    paths[1].write_bytes(first)
    with pytest.raises(DataError, match=r"train-00000\.arrow holds corpus/train-00001"):
        TokenStream.open(paths)


def test_another_tokenizer_is_refused_with_both_hashes(paths: list[Path]) -> None:
    with pytest.raises(DataError, match=f"{'a' * 64}.*{'b' * 64}"):
        TokenStream.open(paths, tokenizer_sha256="b" * 64)
    assert len(TokenStream.open(paths, tokenizer_sha256="a" * 64)) == len(WHOLE)


def test_other_formats_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.arrow"
    write_shard(path, [], replace(info_of(path), format=2))
    with pytest.raises(DataError, match="format 2"):
        TokenStream.open([path])
    table = pa.table({"tokens": [[1]]})
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(DataError, match="not a token shard"):
        TokenStream.open([path])


def test_a_token_beyond_the_vocabulary_is_named_with_file_document_and_place(tmp_path: Path) -> None:
    path, info = tmp_path / "corpus" / "train-00000.arrow", ShardInfo("corpus/train-00000", "prose", "t", 10, 0)
    path.parent.mkdir()
    write_shard(path, [rows_of([0, 9], [0, 3, 9])], info)
    refuse_impossible_rows(path)
    write_shard(path, [rows_of([0, 9], [0, 3, 10])], info)
    with pytest.raises(DataError, match=r"train-00000\.arrow: token 2 of document d1 is 10, the vocabulary has 10 ids"):
        refuse_impossible_rows(path)


def test_a_shard_that_counts_otherwise_than_it_holds_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, info = tmp_path / "corpus" / "train-00000.arrow", ShardInfo("corpus/train-00000", "prose", "t", 10, 0)
    path.parent.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(shard, "replace", lambda info, **counted: replace(info, documents=1, tokens=-2))
        write_shard(path, [rows_of([0, 9])], info)
    with pytest.raises(DataError, match="holds 1 documents and 2 tokens, and says 1 and -2"):
        refuse_impossible_rows(path)
