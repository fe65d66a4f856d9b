from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import DataError
from pipeline.tokens import pretokenizer
from pipeline.tokens import tokenizer as module
from pipeline.tokens.tokenizer import END_OF_TEXT, TOKENIZER_FILE, Tokenizer, load_tokenizer
from pipeline.tokens.tokenizer_stage import byte_pairs, characters

TEXT = (
    Path(pretokenizer.__file__).read_text()
    + " don't you'll we've they're I'm he'd it's the    end\n\n\n\tof 1984 and 42\n"
) * 3
# Characters that the rules of GPT-2's pattern are about, and neighbours of each length in UTF-8.
TRICKY = "abSTlrvedm'' \n\t\r\0019\u00a0\u2003\u3000\u0085é漢🙂٣½ſ'<|>_\u0301"

texts = st.one_of(st.text(st.sampled_from(TRICKY), max_size=40), st.text(max_size=40))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tokenizers.Tokenizer:
    path = tmp_path_factory.mktemp("bpe") / TOKENIZER_FILE
    path.write_text(byte_pairs([TEXT], 400))
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True  # text that spells out end-of-text stays text
    tokenizer.path = path
    return tokenizer


@pytest.fixture(scope="module")
def bpe(reference: tokenizers.Tokenizer) -> Tokenizer:
    return load_tokenizer(reference.path.parent)


def ids_by_reference(reference: tokenizers.Tokenizer, documents: list[str]) -> list[list[int]]:
    return [encoding.ids for encoding in reference.encode_batch_fast(documents, add_special_tokens=False)]


@settings(max_examples=150, deadline=None)
@given(documents=st.lists(texts, max_size=4))
def test_ids_are_those_of_tokenizers(bpe: Tokenizer, reference: tokenizers.Tokenizer, documents: list[str]) -> None:
    assert [ids.tolist() for ids in bpe.encode_documents(documents)] == ids_by_reference(reference, documents)


def test_ids_are_those_of_tokenizers_for_characters_of_all_scripts(
    bpe: Tokenizer, reference: tokenizers.Tokenizer
) -> None:
    points = [*range(0x3100), *range(0x3100, 0xD800, 37), *range(0xE000, 0x110000, 101)]
    documents = [
        "".join(f"x{c}1{c} {c}!{c}  {c}" for c in map(chr, points[at : at + 999])) for at in range(0, len(points), 999)
    ]
    assert [ids.tolist() for ids in bpe.encode_documents(documents)] == ids_by_reference(reference, documents)


@pytest.mark.parametrize("unit", ["a", " ", "\n", "7", "-", "'s", "\u3000", " \n", "🙂", "ab c"])
def test_ids_are_those_of_tokenizers_in_long_runs(bpe: Tokenizer, reference: tokenizers.Tokenizer, unit: str) -> None:
    documents = [unit * 50_000, unit * 50_000 + "x", "x" + unit * 50_000 + " x"]
    assert [ids.tolist() for ids in bpe.encode_documents(documents)] == ids_by_reference(reference, documents)


def test_a_megabyte_of_noise_is_one_piece_without_harm(bpe: Tokenizer) -> None:
    noise = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz", k=1_000_000))
    assert bpe.decode(bpe.encode(noise)) == noise


@settings(max_examples=200, deadline=None)
@given(text=texts)
def test_text_comes_back_unchanged(bpe: Tokenizer, text: str) -> None:
    assert bpe.decode(bpe.encode(text)) == text


@given(content=st.binary(max_size=50))
def test_any_bytes_can_be_spelled_in_ids(bpe: Tokenizer, content: bytes) -> None:
    of_byte = {bpe.decode_bytes([number]): number for number in range(bpe.vocab_size)}
    assert bpe.decode_bytes([of_byte[bytes([byte])] for byte in content]) == content


def test_half_a_character_decodes_to_the_replacement(bpe: Tokenizer) -> None:
    assert bpe.decode(bpe.encode("漢")[:1]) == "\N{REPLACEMENT CHARACTER}"


def test_end_of_text_in_a_document_stays_text(bpe: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / TOKENIZER_FILE).write_text(characters(END_OF_TEXT))
    for tokenizer in (bpe, load_tokenizer(tmp_path)):
        ids = tokenizer.encode(END_OF_TEXT)
        assert tokenizer.end_of_text not in ids
        assert tokenizer.decode(ids) == END_OF_TEXT == tokenizer.decode([tokenizer.end_of_text])


def test_rows_begin_with_end_of_text(bpe: Tokenizer) -> None:
    ids, offsets = bpe.encode_rows(["it's", "", "\0"])
    assert offsets.tolist() == [0, len(ids) - 3, len(ids) - 2, len(ids)]
    assert ids[offsets[:-1]].tolist() == [bpe.end_of_text] * 3
    assert ids[1:-3].tolist() == bpe.encode("it's").tolist()
    assert ids.dtype == np.uint16


def test_no_documents_give_no_rows(bpe: Tokenizer) -> None:
    ids, offsets = bpe.encode_rows([])
    assert (ids.tolist(), offsets.tolist()) == ([], [0])


def test_ids_do_not_depend_on_grouping_or_memory(
    bpe: Tokenizer, reference: tokenizers.Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [TEXT[at : at + 97] for at in range(0, 5000, 97)]
    expected = ids_by_reference(reference, documents)
    monkeypatch.setattr(module, "GROUP_BYTES", 300)
    monkeypatch.setattr(pretokenizer, "MAX_KNOWN", 10)
    assert [ids.tolist() for ids in bpe.encode_documents(documents)] == expected


def test_character_tokenizer_by_hand(tmp_path: Path) -> None:
    (tmp_path / TOKENIZER_FILE).write_text(characters("hello\n world"))
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.kind, tokenizer.vocab_size, tokenizer.end_of_text) == ("char", 11, 10)
    assert tokenizer.encode("\n hX\0wé").tolist() == [0, 1, 4, 9, 9, 8, 9]  # \n, space, d e h l o r w, unknown
    assert tokenizer.decode([4, 3, 5, 5, 6, 9]) == "hello\N{REPLACEMENT CHARACTER}"
    ids, offsets = tokenizer.encode_rows(["he", "", "o"])
    assert (ids.tolist(), offsets.tolist()) == ([10, 4, 3, 10, 10, 6], [0, 3, 4, 6])


def test_missing_or_damaged_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tokenizer\.json cannot be read"):
        load_tokenizer(tmp_path)
    no_end = json.loads(byte_pairs(["text"], 300).replace(END_OF_TEXT, "<other>"))
    for content in ("", "{", '{"kind": "char"}', "[1]", '{"model": {}}', json.dumps(no_end)):
        (tmp_path / TOKENIZER_FILE).write_text(content)
        with pytest.raises(DataError, match=r"tokenizer\.json is damaged"):
            load_tokenizer(tmp_path)
