"""Our tokenizers in the form that `transformers` reads, and byte-level BPE back from it.

An exported tokenizer gives the same ids as ours: characters of a text that spell out "<|endoftext|>" are ordinary text
(`split_special_tokens`), and nothing is put before a text, as with GPT-2. To have a text begin a document, prepend
`bos_token_id`, which is end-of-text; the lm-evaluation-harness does so by itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from pipeline.errors import ConfigError, DataError
from pipeline.tokens.tokenizer import END_OF_TEXT, SPELLING, TOKENIZER_FILE, Tokenizer

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
UNKNOWN_APART = "<|unknown|>"  # instead, where the text itself holds that character
VOCABULARY, MERGES = "vocab.json", "merges.txt"


def exported_tokenizer(folder: Path, tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    """The tokenizer of a folder, of which `tokenizer` is the opened form, as one of the `tokenizers` library."""
    # A BPE of ours is stored in that library's format; a character tokenizer is a list of characters of our own.
    if tokenizer.kind == "char":
        return _characters(json.loads((folder / TOKENIZER_FILE).read_bytes())["characters"])
    return tokenizers.Tokenizer.from_file(str(folder / TOKENIZER_FILE))


def tokenizer_config(context: int) -> dict[str, Any]:
    """The content of tokenizer_config.json."""
    return {
        # The class that adds nothing to tokenizer.json; others bring rules of the model they are named after.
        "tokenizer_class": "PreTrainedTokenizerFast",
        **dict.fromkeys(("bos_token", "eos_token", "pad_token"), END_OF_TEXT),
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,
    }


def _characters(characters: str) -> tokenizers.Tokenizer:
    unknown = UNKNOWN_APART if UNKNOWN in characters else UNKNOWN
    vocabulary = {character: number for number, character in enumerate([*characters, unknown])}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    # One word per character: [\s\S] matches every one, also the line ends that a dot leaves out.
    tokenizer.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([END_OF_TEXT])  # takes the next id
    return tokenizer


def imported_tokenizer(folder: Path) -> str:
    """The tokenizer of a folder as the content of our tokenizer.json.

    Reads tokenizer.json, or else vocab.json and merges.txt. Raises DataError if there is neither, and ConfigError if it
    is not the byte-level BPE of GPT-2, the only kind that our fast encoder handles.
    """
    tokenizer = _opened(folder)
    if not _is_gpt2_kind(tokenizer):
        raise ConfigError(
            f"The tokenizer in {folder} is not GPT-2's byte-level BPE with {END_OF_TEXT} as its one special token.",
            remedy="Import a folder with GPT-2's tokenizer.",
        )
    return str(tokenizer.to_str(pretty=True)) + "\n"


def _is_gpt2_kind(tokenizer: tokenizers.Tokenizer) -> bool:
    content = json.loads(tokenizer.to_str())
    pre_tokenizer = content["pre_tokenizer"] or {}
    options = [pre_tokenizer.get("add_prefix_space"), pre_tokenizer.get("use_regex", True)]
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    return (
        content["model"]["type"] == "BPE"
        and pre_tokenizer.get("type") == "ByteLevel"
        and options == [False, True]
        and content["normalizer"] is None
        and vocabulary.keys() >= SPELLING.keys()  # every byte is a token, so that any text can be encoded
        and tokenizer.get_vocab().keys() - vocabulary.keys() <= {END_OF_TEXT}
        and tokenizer.token_to_id(END_OF_TEXT) is not None
        and sorted(tokenizer.get_vocab().values()) == list(range(tokenizer.get_vocab_size()))  # ids without a gap
    )


def files_to_read(folder: Path) -> list[Path]:
    """The files that `imported_tokenizer` reads."""
    return [folder / TOKENIZER_FILE] if (folder / TOKENIZER_FILE).is_file() else [folder / VOCABULARY, folder / MERGES]


def _opened(folder: Path) -> tokenizers.Tokenizer:
    file, vocabulary, merges = folder / TOKENIZER_FILE, folder / VOCABULARY, folder / MERGES
    try:
        if file.is_file():
            return tokenizers.Tokenizer.from_file(str(file))
        model = models.BPE.from_file(str(vocabulary), str(merges))
    except Exception as error:  # `tokenizers` raises a plain Exception for a file that it cannot read
        raise DataError(
            f"{folder} has no readable {TOKENIZER_FILE}, nor {VOCABULARY} with {MERGES} ({error}).",
            remedy="Get the folder again, its tokenizer included.",
        ) from error
    # The old pair of files holds merges alone; GPT-2's splitting rule and its one special token are known.
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END_OF_TEXT])
    return tokenizer
