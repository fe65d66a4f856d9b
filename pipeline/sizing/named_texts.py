"""What `folio init` was given: which kind of text an argument names, and how much text there is."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config.schema import Config
from pipeline.errors import ConfigError
from pipeline.graph.expected_texts import corpus_bytes, target_bytes
from pipeline.inputs.local_files import is_supported
from pipeline.inputs.outside import look_outside
from pipeline.sizing.recipe import TextSizes
from pipeline.sizing.short_documents import fewest_characters

HUB_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?::([\w.-]+))?")
WILDCARDS = re.compile(r"[*?\[]")
UNKNOWN_TARGET_BYTES = 1_000_000  # of a hub dataset, whose size is known only once it is fetched
LOCAL_PROPOSAL = "${FOLIO_DATA}/corpus/*.jsonl.zst"
HUB_PROPOSALS: tuple[dict[str, str], ...] = (
    {"hub": "HuggingFaceFW/fineweb-edu", "subset": "sample-10BT", "license": "ODC-By 1.0"},
    {"hub": "wikimedia/wikipedia", "subset": "20231101.en", "license": "CC BY-SA 3.0"},
    {"hub": "roneneldan/TinyStories", "license": "CDLA-Sharing 1.0"},
)


def target_named(text: str, folder: Path) -> dict[str, str]:
    """The target section that an argument means, for a config in `folder`. Raises ConfigError if it means none."""
    if text == "tiny-shakespeare":
        return {"name": text}
    if not _is_local(text) and (hub := HUB_NAME.fullmatch(text)):
        return {"hub": hub[1], **({"subset": hub[2]} if hub[2] else {})}
    if Path(text).is_dir():
        patterns = _patterns_below(Path(text), "TARGET")
        if len(patterns) > 1:
            raise ConfigError(
                f"TARGET {text} is a folder of several kinds of files, and a target is one text, or files of one kind.",
                remedy=f"Name one of them: {', '.join(patterns)}.",
            )
        return {"path": _path_in_config(patterns[0], folder)}
    return {"path": _path_in_config(text, folder)}


def sources_named(text: str, folder: Path) -> list[dict[str, str]]:
    """The sources that one --corpus means, for a config in `folder`: of a folder, one for each kind of its files."""
    if text.startswith(("http://", "https://")):
        return [{"url": text}]
    if Path(text).is_dir():
        return [{"path": _path_in_config(pattern, folder)} for pattern in _patterns_below(Path(text), "--corpus")]
    if not _is_local(text) and (hub := HUB_NAME.fullmatch(text)):
        return [{"hub": hub[1], **({"subset": hub[2]} if hub[2] else {})}]
    return [{"path": _path_in_config(text, folder)}]


def proposed_sources() -> tuple[list[dict[str, str]], tuple[dict[str, str], ...]]:
    """Where no corpus was named: the sources to begin with, and others worth a try."""
    here = os.environ.get("FOLIO_DATA")
    if here and any(Path(here).glob("corpus/*.jsonl.zst")):
        return [{"path": LOCAL_PROPOSAL}], HUB_PROPOSALS
    return [HUB_PROPOSALS[0]], HUB_PROPOSALS[1:]


def texts_of(target: Mapping[str, Any], sources: list[dict[str, str]], folder: Path) -> TextSizes:
    """How much text there is, as UTF-8. Raises ConfigError or EnvironmentFault for one that is missing."""
    values = {"name": "sizes", "target": target, "corpus": {"sources": sources}}
    config = Config.model_validate(values).based_in(folder)
    outside = look_outside(config)
    outside.refuse_unknown()
    sizes = list(corpus_bytes(config, outside).values())
    return TextSizes(
        target_bytes=target_bytes(config, outside) or UNKNOWN_TARGET_BYTES,
        corpus_bytes=math.inf if None in sizes else sum(size for size in sizes if size is not None),
        fewest_characters=fewest_characters(config, outside),
    )


def _is_local(text: str) -> bool:
    return os.path.lexists(text) or text.startswith((".", "/", "~", "$")) or WILDCARDS.search(text) is not None


def _patterns_below(folder: Path, argument: str) -> list[str]:
    """A pattern for each kind of readable file below a folder. Raises ConfigError if there is none."""
    names = [path.name for path in sorted(folder.rglob("*")) if path.is_file() and is_supported(path.name)]
    if not names:
        raise ConfigError(
            f"{argument} {folder}: no file below it is text that Folio reads.",
            remedy="It reads .txt, .jsonl, .json and .parquet, each also with .gz or .zst.",
        )
    return [f"{folder}/**/*{suffix}" for suffix in sorted({"".join(Path(name).suffixes[-2:]) for name in names})]


def _path_in_config(text: str, folder: Path) -> str:
    """A path as it is written in a config in `folder`: relative to it where that is no detour."""
    if text.startswith(("~", "$")) or Path(text).is_absolute():
        return text
    relative = os.path.relpath(text, folder)
    return str(Path(text).absolute()) if relative.startswith("../..") else relative
