"""Tokenizers as they are used: text to ids, ids to text, read from an artifact's `tokenizer.json`.

`bpe` is byte-level BPE in the format of the `tokenizers` library: any text can be encoded and comes back unchanged.
`char` is the lecture's: one id per character of the target's text. In both, text that spells out "<|endoftext|>" stays
text; the end-of-text id only ever comes from the program.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import tiktoken
import tokenizers
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.runtime.files import sha256_of
from pipeline.tokens.pretokenizer import PieceEncoder, PreTokenizer
from pipeline.tokens.shard import token_dtype

Ids = Sequence[int] | NDArray[np.integer]

TOKENIZER_FILE = "tokenizer.json"
END_OF_TEXT = "<|endoftext|>"
GROUP_BYTES = 8_000_000  # of text that is cut and encoded at once; takes about ten times as much memory

# The pattern of `tokenizers`' ByteLevel with possessive quantifiers (++): the same pieces without backtracking, however
# long they are. `tiktoken` is given one piece at a time, which it must not cut again.
PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""


class Tokenizer(ABC):
    """What both kinds have in common. The file's `sha256` identifies the tokenizer in shards and checkpoints.

    Ids are 0 ... vocab_size - 1 and of type `dtype`; `end_of_text` is one of them.
    """

    kind: Literal["bpe", "char"]

    def __init__(self, path: Path, vocab_size: int, end_of_text: int) -> None:
        self.sha256 = sha256_of(path)
        self.vocab_size = vocab_size
        self.end_of_text = end_of_text
        self.dtype = token_dtype(vocab_size)

    @abstractmethod
    def encode_rows(self, texts: Sequence[str]) -> tuple[NDArray[np.unsignedinteger], NDArray[np.int64]]:
        """All texts as one array of ids (of `dtype`), each text after an end-of-text id, and the offsets of these rows.

        Row i is ids[offsets[i] : offsets[i + 1]]; offsets int64, one more than texts.
        """

    @abstractmethod
    def decode_bytes(self, ids: Ids) -> bytes:
        """The UTF-8 of any ids; an end-of-text id is spelled out."""

    def decode(self, ids: Ids) -> str:
        """The text of any ids. What is not UTF-8 (a generated text may end inside a character) becomes U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def encode_documents(self, texts: Sequence[str]) -> list[NDArray[np.unsignedinteger]]:
        """The ids of each text, without end-of-text."""
        ids, offsets = self.encode_rows(texts)
        return [ids[start + 1 : stop] for start, stop in pairwise(offsets.tolist())]

    def encode(self, text: str) -> NDArray[np.unsignedinteger]:
        """The ids of one text, without end-of-text."""
        return self.encode_documents([text])[0]


class BytePairTokenizer(Tokenizer):
    """Byte-level BPE with the pieces and merges of a `tokenizers` file.

    `tiktoken` applies the merges, once for each distinct piece: it does so several times as fast. It takes the id of a
    token as the rank of its merge, so ids must be in the order of the merges, as they are trained here and in GPT-2.
    The ids are those that `tokenizers` itself gives.
    """

    kind = "bpe"

    def __init__(self, path: Path) -> None:
        model = _byte_pair_model(path)
        vocabulary = model.get_vocab()
        end_of_text = vocabulary.pop(END_OF_TEXT)
        super().__init__(path, len(vocabulary) + 1, end_of_text)
        # In bytes, as `tiktoken` wants them; the file spells each byte as a printable character.
        ranks = {bytes(map(SPELLING.__getitem__, token)): number for token, number in vocabulary.items()}
        spelled = {number: token for token, number in ranks.items()} | {end_of_text: END_OF_TEXT.encode()}
        self._spelled = pa.array([spelled[number] for number in range(len(spelled))], pa.large_binary())
        merges = tiktoken.Encoding("folio", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
        self._pre_tokenizer = PreTokenizer(model.pre_tokenizer.pre_tokenize_str)
        self._pieces = PieceEncoder(merges.encode_ordinary, end_of_text, self.dtype)

    def encode_rows(self, texts: Sequence[str]) -> tuple[NDArray[np.unsignedinteger], NDArray[np.int64]]:
        ids: list[NDArray[np.unsignedinteger]] = []
        offsets = [np.zeros(1, np.int64)]
        for group in _groups(texts):
            group_ids, group_offsets = self._encode_group(group)
            ids.append(group_ids)
            offsets.append(group_offsets[1:] + offsets[-1][-1])
        return np.concatenate([np.empty(0, self.dtype), *ids]), np.concatenate(offsets)

    def _encode_group(self, texts: list[bytes]) -> tuple[NDArray[np.unsignedinteger], NDArray[np.int64]]:
        # A mark of one byte before each document, which becomes its end-of-text id.
        utf8 = np.frombuffer(b"".join(b"\0" + text for text in texts), np.uint8)
        marks = np.cumsum([0] + [len(text) + 1 for text in texts[:-1]])
        return self._pieces.rows(utf8, self._pre_tokenizer.starts(utf8, marks), marks)

    def decode_bytes(self, ids: Ids) -> bytes:
        # The bytes of all tokens stand one after another in the third buffer of the array that `take` makes.
        spelled: bytes = self._spelled.take(pa.array(np.asarray(ids, np.uint32))).buffers()[2].to_pybytes()
        return spelled


class CharacterTokenizer(Tokenizer):
    """One id per known character, in the order of their code points; then an id for unknown ones, then end-of-text."""

    kind = "char"

    def __init__(self, path: Path) -> None:
        characters = json.loads(path.read_text(encoding="utf-8"))["characters"]
        super().__init__(path, len(characters) + 2, len(characters) + 1)
        self._points = _code_points(characters)
        self._texts = [*characters, "\N{REPLACEMENT CHARACTER}", END_OF_TEXT]

    def encode_rows(self, texts: Sequence[str]) -> tuple[NDArray[np.unsignedinteger], NDArray[np.int64]]:
        points = [_code_points(text) for text in texts]
        ids = [np.empty(0, self.dtype)]
        for document in points:
            ids += [np.array([self.end_of_text], self.dtype), self._ids(document)]
        return np.concatenate(ids), np.cumsum([0] + [len(document) + 1 for document in points])

    def _ids(self, points: NDArray[np.uint32]) -> NDArray[np.unsignedinteger]:
        unknown = len(self._points)
        # The characters are sorted, so a character's place among them is its id, if it is there at all.
        places = np.searchsorted(self._points, points)
        known = np.append(self._points, 0)[places] == points
        return np.where(known & (places < unknown), places, unknown).astype(self.dtype)

    def decode_bytes(self, ids: Ids) -> bytes:
        return "".join(map(self._texts.__getitem__, np.asarray(ids).tolist())).encode()


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in an artifact's folder. Raises DataError if its file is missing or damaged."""
    path = folder / TOKENIZER_FILE
    remedy = "Delete that folder and run stage tokenizer again."
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        return CharacterTokenizer(path) if content.get("kind") == "char" else BytePairTokenizer(path)
    except OSError as error:
        raise DataError(f"Tokenizer {path} cannot be read ({error.strerror}).", remedy=remedy) from None
    except (ValueError, KeyError, AttributeError) as error:
        raise DataError(f"Tokenizer {path} is damaged ({error}).", remedy=remedy) from None


@lru_cache(maxsize=1)
def tokenizer_of_process(folder: Path) -> Tokenizer:
    """`load_tokenizer`, once per worker process, so that the pieces it has encoded are remembered."""
    return load_tokenizer(folder)


def _byte_pair_model(path: Path) -> tokenizers.Tokenizer:
    try:
        model = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # `tokenizers` raises a plain Exception for a file that it cannot read
        raise ValueError(str(error)) from error
    if model.token_to_id(END_OF_TEXT) is None:
        raise ValueError(f"it has no {END_OF_TEXT}")
    return model


def _spelling() -> dict[str, int]:
    """How byte-level BPE spells bytes as printable characters, such as Ġ for a space and Ċ for a newline.

    The table `bytes_to_unicode` of GPT-2's encoder.py: printable bytes spell themselves, the others follow from U+0100.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = sorted(set(range(0x100)) - set(printable))
    return {chr(byte): byte for byte in printable} | {chr(0x100 + at): byte for at, byte in enumerate(hidden)}


SPELLING = _spelling()


def _groups(texts: Sequence[str]) -> Iterator[list[bytes]]:
    """The texts as UTF-8, in groups of about GROUP_BYTES."""
    group: list[bytes] = []
    size = 0
    for text in texts:
        group.append(text.encode())
        size += len(group[-1])
        if size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _code_points(text: str) -> NDArray[np.uint32]:
    # Fixed width, so one view is all it takes; surrogatepass, because any str may be asked for and must not raise.
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
