"""The chosen config as a YAML file: every key that was chosen, with the reason beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from gpt.counts import num_parameters
from pipeline.runtime.formatting import counted, readable_bytes, readable_count, readable_seconds
from pipeline.sizing.choice import Choice
from pipeline.sizing.recipe import CORPUS_EPOCHS, Wish

PLAIN = re.compile(r"[a-z][a-z0-9_-]*")
FLOW = 118  # columns; a longer section is written one key a line


def yaml_text(choice: Choice, wish: Wish, command: str, proposals: tuple[str, ...] = ()) -> str:
    """The file. `command` made it; `proposals` are sources that the user may add, written as comments."""
    values = choice.values
    lines = [
        f"# How much does pretraining help on {_printable(_target_name(wish))}? Chosen for this machine, this text and "
        f"{wish.minutes:g} minutes.",
        f"#   {_printable(command)}",
        f"# Hardware: {counted(wish.ranks, 'rank')}, dtype {wish.dtype}. Forecast: {readable_seconds(choice.seconds)}.",
        "# How each number was chosen: docs/decisions/a-run-that-fits.md. `folio plan` says what a change costs.",
        f"name: {wish.name}",
        f"target: {flow(values['target'])}",
        "corpus:",
        "  sources:",
        *(f"    - {flow(source)}" for source in values["corpus"]["sources"]),
        *(f"    # - {proposal}" for proposal in proposals),
    ]
    for key in ("max_bytes", "min_characters", "validation"):
        if key in values["corpus"]:
            lines.append(f"  {key}: {values['corpus'][key]}{_why(f'corpus.{key}', choice, wish)}")
    for section in ("tokenizer", "model", "pretrain", "scratch", "finetune", "launch"):
        comment = _why(section, choice, wish)
        lines += [f"#{comment.removeprefix('  #')}"] if comment else []
        lines += _section(section, values[section])
    return "\n".join(lines) + "\n"


def _why(key: str, choice: Choice, wish: Wish) -> str:
    """The comment beside a key or above a section."""
    pretrain = choice.values["pretrain"]
    text = pretrain["tokens"] * choice.size.bytes_per_token
    epochs = text / wish.texts.corpus_bytes
    seen = f"{epochs:.1f} epochs" if epochs >= 1 else f"{readable_bytes(text)} of text"
    reasons = {
        "corpus.max_bytes": "what pretraining has time to see, and half as much again",
        "corpus.min_characters": "many documents are short, and none of them is a scrap",
        "corpus.validation": f"about {_held_out_tokens(choice, wish):,} tokens",
        "tokenizer": "a small vocabulary for a small model and little text",
        "model": f"{readable_count(_parameters(choice))} parameters: the best size for what can be trained in the time",
        "pretrain": f"{seen} (at most {CORPUS_EPOCHS} epochs are worth it), "
        f"{pretrain['tokens'] / _parameters(choice):.0f} tokens per parameter",
        "scratch": "the control: as much training as pretraining and finetuning together, over all rates and seeds",
        "finetune": "lower rates and a quarter of the control's steps",
        "launch": "",
    }
    return f"  # {reasons[key]}" if reasons[key] else ""


def _held_out_tokens(choice: Choice, wish: Wish) -> int:
    """Tokens of the corpus that pretraining is evaluated on, to two digits."""
    corpus = choice.config.corpus
    kept = min(corpus.max_bytes or wish.texts.corpus_bytes, wish.texts.corpus_bytes)
    return int(float(f"{corpus.validation * kept / choice.size.bytes_per_token:.1e}"))


def _parameters(choice: Choice) -> int:
    return num_parameters(choice.size.shape())


def _target_name(wish: Wish) -> str:
    return str(next(iter(wish.target.values())))


def _section(name: str, values: Mapping[str, Any]) -> list[str]:
    """A section on one line where it fits, else one key a line."""
    line = f"{name}: {flow(values)}"
    return [line] if len(line) <= FLOW else [f"{name}:", *(f"  {key}: {_plain(item)}" for key, item in values.items())]


def flow(values: Mapping[str, Any]) -> str:
    """A mapping on one line, as YAML reads it."""
    return "{" + ", ".join(f"{key}: {_plain(value)}" for key, value in values.items()) + "}"


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_plain, value)) + "]"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int) or (PLAIN.fullmatch(value) and yaml.safe_load(value) == value):
        return str(value)
    # A JSON string is a YAML string, whatever is in it.
    return json.dumps(value, ensure_ascii=False)


def _printable(text: str) -> str:
    """Fit for a comment, which ends with its line."""
    return "".join(character if character.isprintable() else "?" for character in text)
