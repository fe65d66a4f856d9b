"""Stage `target`: the text whose validation loss is reported, cut into train, selection and validation.

    train.txt        fits the arms                                    the first part
    selection.txt    chooses learning rate and best step              just before the validation part
    validation.txt   is scored once, by the report                    the last `validation` share of the characters

Consecutive cuts by character count, newlines untouched: Tiny Shakespeare's validation part begins at character
1,003,854, where the lecture and nanoGPT cut it.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.schema import TargetSection
from pipeline.corpus.http_file import WebFile
from pipeline.corpus.installed_text import language_reference
from pipeline.errors import ConfigError, DataError, EnvironmentFault
from pipeline.graph.work import Work
from pipeline.runtime.files import write_bytes
from pipeline.runtime.progress import Progress

URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
RELATIVE_PATH = Path("tinyshakespeare") / "input.txt"
SHORTEST_CHARACTERS = 1_000


@dataclass(frozen=True)
class TargetText:
    """The bytes of the target, what they are called and where they came from."""

    data: bytes
    name: str
    origin: str  # path, FOLIO_DATA, cache, network, hub or installed text


def make_target(work: Work) -> dict[str, Any]:
    """Get the target and cut it. Raises DataError if it is damaged or too short, ConfigError if nothing answers."""
    config: TargetSection = work.slice["target"]
    found = _find(config, work.progress)
    text = _decoded(found)
    cuts = cut(text, selection=config.selection, validation=config.validation)
    _check_length(found, text, cuts)
    counts: dict[str, Any] = {"name": found.name, "origin": found.origin}
    counts |= {"sha256": hashlib.sha256(found.data).hexdigest(), "characters": len(text), "bytes": len(found.data)}
    for part, content in cuts.items():
        data = content.encode()
        write_bytes(work.folder / f"{part}.txt", data)
        counts |= {f"{part}_characters": len(content), f"{part}_bytes": len(data)}
    work.progress.say(f"{found.name} ({found.origin}), {len(text):,} characters")
    return counts


def cut(text: str, *, selection: float, validation: float) -> dict[str, str]:
    """The text in three consecutive parts; both shares are of its characters."""
    validation_start = int(len(text) * (1 - validation))
    selection_start = max(validation_start - int(len(text) * selection), 0)
    return {
        "train": text[:selection_start],
        "selection": text[selection_start:validation_start],
        "validation": text[validation_start:],
    }


def _find(config: TargetSection, progress: Progress) -> TargetText:
    try:
        return _configured(config)
    except (ConfigError, EnvironmentFault) as error:
        if not config.fallback:
            raise
        progress.say(f"TARGET NOT FOUND: {error.message}")
    data = language_reference().encode()
    progress.say("Using Python's own language reference instead (pydoc_data.topics): a demonstration, not a result.")
    return TargetText(data, "python-language-reference", "installed text")


def _configured(config: TargetSection) -> TargetText:
    if config.path is not None:
        return TargetText(_read_path(Path(config.path)), Path(config.path).name, "path")
    if config.hub is not None:
        return TargetText(_read_hub(config), config.hub, "hub")
    return _tiny_shakespeare()


def _tiny_shakespeare() -> TargetText:
    folders = {"FOLIO_DATA": os.environ.get("FOLIO_DATA"), "cache": str(_cache_folder())}
    for origin, folder in folders.items():
        path = Path(folder or "") / RELATIVE_PATH
        if folder and path.is_file():
            return TargetText(_checked(path.read_bytes(), str(path)), "tiny-shakespeare", origin)
    data = _checked(_download(), URL)
    _keep(_cache_folder() / RELATIVE_PATH, data)
    return TargetText(data, "tiny-shakespeare", "network")


def _checked(data: bytes, place: str) -> bytes:
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        raise DataError(
            f"{place} has sha256 {found}, Tiny Shakespeare has {SHA256}.",
            remedy="Delete that file to have it fetched again, or give the text as target.path.",
        )
    return data


def _download() -> bytes:
    try:
        with WebFile(URL, attempts=2, timeout_seconds=3.0) as file:
            return file.read()
    except (EnvironmentFault, ConfigError) as error:
        raise EnvironmentFault(
            f"Tiny Shakespeare is not in FOLIO_DATA, not in {_cache_folder()}, and not to be had: {error.message}",
            remedy=f"Set FOLIO_DATA to a folder with {RELATIVE_PATH}, give a text as target.path, or connect.",
        ) from None


def _keep(path: Path, data: bytes) -> None:
    """Leave a copy in the cache; a cache that cannot be written is no reason to stop."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, data)
    except OSError:
        return


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "folio"


def _read_path(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"target.path {path} cannot be read: {error.strerror}.", remedy="Give the path of a UTF-8 text file."
        ) from None


def _read_hub(config: TargetSection) -> bytes:
    from pipeline.corpus.hub import HubDataset  # loads `datasets`: seconds that a local target does not pay

    assert config.hub is not None, "called for a hub target"
    dataset = HubDataset.find(config.hub, config.subset, config.split, config.revision)
    rows = [row[config.field] for row in dataset.rows((config.field,))]
    texts = [text for text in rows if isinstance(text, str)]
    if len(texts) < len(rows):
        raise ConfigError(
            f"target.hub {config.hub}: not every row has text in the field {config.field!r}.",
            remedy="Set target.field to the column that holds the text.",
        )
    return "\n".join(texts).encode()


def _decoded(found: TargetText) -> str:
    try:
        return found.data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"The target {found.name} is not UTF-8: byte {error.start:,} is 0x{found.data[error.start]:02x}.",
            remedy="Convert it, for example with iconv -t UTF-8.",
        ) from None


def _check_length(found: TargetText, text: str, cuts: dict[str, str]) -> None:
    lengths = ", ".join(f"{part} {len(content):,}" for part, content in cuts.items())
    if len(text) < SHORTEST_CHARACTERS or not all(cuts.values()):
        raise DataError(
            f"The target {found.name} has {len(text):,} characters, cut into {lengths}.",
            remedy=f"Give at least {SHORTEST_CHARACTERS:,} characters and shares that leave no part empty.",
        )
