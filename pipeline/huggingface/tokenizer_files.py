"""Our tokenizers in the form that `transformers` reads, and byte-level BPE back from it.

An exported tokenizer gives the same ids as ours: text that spells out "<|endoftext|>" stays text
(`split_special_tokens`), and nothing is put before it, as with GPT-2. Who wants a text to begin a document prepends
`bos_token_id`, which is end-of-text; the lm-evaluation-harness does so by itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from pipeline.errors import ConfigError, DataError
from pipeline.tokens.tokenizer import END_OF_TEXT, FILE, SPELLING, Tokenizer

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
UNKNOWN_APART = "<|unknown|>"  # where the text itself holds that character
VOCABULARY, MERGES = "vocab.json", "merges.txt"


def exported(folder: Path, tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    """The tokenizer of a folder, `tokenizer` already opened, as the `tokenizers` library expresses it."""
    if tokenizer.kind == "char":
        return _characters(json.loads((folder / FILE).read_bytes())["characters"])
    return tokenizers.Tokenizer.from_file(str(folder / FILE))


def settings(context: int) -> dict[str, Any]:
    """The content of tokenizer_config.json."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **dict.fromkeys(("bos_token", "eos_token", "pad_token"), END_OF_TEXT),
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,
    }


def _characters(characters: str) -> tokenizers.Tokenizer:
    unknown = UNKNOWN_APART if UNKNOWN in characters else UNKNOWN
    vocabulary = {character: number for number, character in enumerate([*characters, unknown])}
    made = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    made.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
    made.decoder = decoders.Fuse()
    made.add_special_tokens([END_OF_TEXT])  # takes the next id
    return made


def imported(folder: Path) -> str:
    """The tokenizer of a folder as the content of our tokenizer.json.

    Reads tokenizer.json, or else vocab.json and merges.txt. Raises DataError if there is neither, and ConfigError if it
    is not the byte-level BPE of GPT-2, the only kind that our fast path encodes.
    """
    made = _opened(folder)
    content = json.loads(made.to_str())
    pieces = content["pre_tokenizer"] or {}
    vocabulary = made.get_vocab(with_added_tokens=False)
    plain = (
        content["model"]["type"] == "BPE"
        and (pieces.get("type"), pieces.get("add_prefix_space"), pieces.get("use_regex", True))
        == ("ByteLevel", False, True)
        and content["normalizer"] is None
        and vocabulary.keys() >= SPELLING.keys()
        and made.get_vocab().keys() - vocabulary.keys() <= {END_OF_TEXT}
        and made.token_to_id(END_OF_TEXT) is not None
        and sorted(made.get_vocab().values()) == list(range(made.get_vocab_size()))
    )
    if not plain:
        raise ConfigError(
            f"The tokenizer in {folder} is not GPT-2's byte-level BPE with {END_OF_TEXT} as its one special token.",
            remedy="Import a folder with GPT-2's tokenizer.",
        )
    return str(made.to_str(pretty=True)) + "\n"


def files(folder: Path) -> list[Path]:
    """The files that `imported` reads."""
    return [folder / FILE] if (folder / FILE).is_file() else [folder / VOCABULARY, folder / MERGES]


def _opened(folder: Path) -> tokenizers.Tokenizer:
    file, vocabulary, merges = folder / FILE, folder / VOCABULARY, folder / MERGES
    try:
        if file.is_file():
            return tokenizers.Tokenizer.from_file(str(file))
        model = models.BPE.from_file(str(vocabulary), str(merges))
    except Exception as error:  # `tokenizers` raises a plain Exception for a file that it cannot read
        raise DataError(
            f"{folder} has no readable {FILE}, nor {VOCABULARY} with {MERGES} ({error}).",
            remedy="Get the folder again, its tokenizer included.",
        ) from error
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([END_OF_TEXT])
    return made
