"""Tokenizers in the format of `tokenizers`, and back; `test_export.py` compares ids through `transformers`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from pipeline.errors import ConfigError, DataError
from pipeline.huggingface.tokenizer_files import exported_tokenizer, files_to_read, imported_tokenizer
from pipeline.tokens.tokenizer import load_tokenizer
from pipeline.tokens.tokenizer_stage import byte_pairs, characters


@pytest.fixture
def content(text: str) -> str:
    return byte_pairs([text], 300)


@pytest.mark.parametrize(("known", "unknown"), [("ab\r\n", "\ufffd"), ("ab\ufffd\n", "<|unknown|>")])
def test_characters_keep_their_ids_and_an_unseen_one_is_unknown(tmp_path: Path, known: str, unknown: str) -> None:
    (tmp_path / "tokenizer.json").write_text(characters(known), encoding="utf-8")
    ours = load_tokenizer(tmp_path)
    theirs = exported_tokenizer(tmp_path, ours)
    assert theirs.encode("bZa\n").ids == ours.encode("bZa\n").tolist()
    assert theirs.id_to_token(theirs.encode("Z").ids[0]) == unknown
    assert theirs.token_to_id("<|endoftext|>") == ours.end_of_text


def test_a_byte_level_bpe_comes_back_with_its_ids(tmp_path: Path, content: str, text: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "tokenizer.json").write_text(imported_tokenizer(tmp_path), encoding="utf-8")
    assert load_tokenizer(tmp_path / "again").encode(text).tolist() == load_tokenizer(tmp_path).encode(text).tolist()


def test_vocabulary_and_merges_in_two_files_are_the_same_tokenizer(tmp_path: Path, content: str, text: str) -> None:
    model = json.loads(content)["model"]
    merges = "".join(" ".join(pair) + "\n" for pair in model["merges"])
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + merges, encoding="utf-8")
    assert [path.name for path in files_to_read(tmp_path)] == ["vocab.json", "merges.txt"]
    read = Tokenizer.from_str(imported_tokenizer(tmp_path))
    assert read.encode(text[:60]).ids == Tokenizer.from_str(content).encode(text[:60]).ids


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "Lowercase"}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}},
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"pre_tokenizer": None},
    ],
    ids=str,
)
def test_another_kind_of_tokenizer_is_refused(tmp_path: Path, content: str, change: dict[str, object]) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(json.loads(content) | change), encoding="utf-8")
    with pytest.raises(ConfigError, match="is not GPT-2's byte-level BPE"):
        imported_tokenizer(tmp_path)


def test_a_folder_without_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no readable tokenizer.json, nor vocab.json with merges.txt"):
        imported_tokenizer(tmp_path)
