"""Stage `target`: the text whose validation loss is reported, cut into train, selection and validation.

    train.txt        fits the arms                                    the rest, at the beginning
    selection.txt    chooses learning rate and best step              just before the validation split
    validation.txt   is scored once, by the report                    the last `validation` share of the characters

The splits are consecutive and cut by character count, newlines untouched: Tiny Shakespeare's validation split begins at
character 1,003,854, where the lecture and nanoGPT cut it.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.text_sections import TargetSection
from pipeline.corpus.http_file import HttpFile
from pipeline.corpus.installed_text import language_reference
from pipeline.corpus.splits import target_file
from pipeline.errors import ConfigError, DataError, EnvironmentFault
from pipeline.graph.stage_counts import TargetCounts
from pipeline.graph.work import Work
from pipeline.runtime.files import write_bytes
from pipeline.runtime.progress import Progress

URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
# Of that file. Its losses are compared with published ones, so another text under this name would be worse than none.
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
RELATIVE_PATH = Path("tinyshakespeare") / "input.txt"
MIN_CHARACTERS = 1_000


@dataclass(frozen=True)
class TargetText:
    """The bytes of the target, the name of the text and where it came from."""

    data: bytes
    name: str
    origin: str  # path, FOLIO_DATA, cache, network, hub or installed text


def make_target(work: Work) -> TargetCounts:
    """Get the target and cut it into its splits.

    Raises DataError if the text is damaged or too short, ConfigError if a path or dataset is wrong, EnvironmentFault if
    no server answers.
    """
    section: TargetSection = work.slice["target"]
    target = _target(section, work.progress)
    text = _decoded(target)
    splits = cut(text, selection=section.selection, validation=section.validation)
    _check_length(target, text, splits)
    for split, content in splits.items():
        write_bytes(target_file(work.folder, split), content.encode())
    work.progress.say(f"{target.name} ({target.origin}), {len(text):,} characters")
    return TargetCounts(
        name=target.name,
        origin=target.origin,
        sha256=hashlib.sha256(target.data).hexdigest(),
        characters=len(text),
        bytes=len(target.data),
        train_characters=len(splits["train"]),
        train_bytes=len(splits["train"].encode()),
        selection_characters=len(splits["selection"]),
        selection_bytes=len(splits["selection"].encode()),
        validation_characters=len(splits["validation"]),
        validation_bytes=len(splits["validation"].encode()),
    )


def cut(text: str, *, selection: float, validation: float) -> dict[str, str]:
    """The text of each split, consecutive in this order; both shares are of its characters."""
    # Rounded down, as the lecture's int(0.9 * n): its published losses are those of exactly these characters.
    validation_start = int(len(text) * (1 - validation))
    selection_start = max(validation_start - int(len(text) * selection), 0)
    return {
        "train": text[:selection_start],
        "selection": text[selection_start:validation_start],
        "validation": text[validation_start:],
    }


def _target(section: TargetSection, progress: Progress) -> TargetText:
    try:
        return _configured(section)
    # Not DataError: a damaged target stops the run even with a fallback, because it was meant to be used.
    except (ConfigError, EnvironmentFault) as error:
        if not section.fallback:
            raise
        progress.say(f"TARGET NOT FOUND: {error.message}")
    data = language_reference().encode()
    progress.say("Using Python's own language reference instead (pydoc_data.topics): a demonstration, not a result.")
    return TargetText(data, "python-language-reference", "installed text")


def _configured(section: TargetSection) -> TargetText:
    if section.path is not None:
        return TargetText(_read_path(Path(section.path)), Path(section.path).name, "path")
    if section.hub is not None:
        return TargetText(_read_hub(section), section.hub, "hub")
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
    digest = hashlib.sha256(data).hexdigest()
    if digest != SHA256:
        raise DataError(
            f"{place} has sha256 {digest}, Tiny Shakespeare has {SHA256}.",
            remedy="Delete that file to have it fetched again, or give the text as target.path.",
        )
    return data


def _download() -> bytes:
    try:
        # Little patience: without a network the demo should fall back in seconds, and this file is one megabyte.
        with HttpFile(URL, attempts=2, timeout_seconds=3.0) as file:
            return file.read()
    except (EnvironmentFault, ConfigError) as error:
        raise EnvironmentFault(
            f"Tiny Shakespeare is not in FOLIO_DATA, not in {_cache_folder()}, and was not downloaded: {error.message}",
            remedy=f"Set FOLIO_DATA to a folder with {RELATIVE_PATH}, give a text as target.path, or connect.",
        ) from None


def _keep(path: Path, data: bytes) -> None:
    """Leave a copy in the cache, if it can be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, data)
    except OSError:
        return  # the text is in memory: a read-only or full cache is not a reason to stop


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "folio"


def _read_path(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"target.path {path} cannot be read: {error.strerror}.", remedy="Give the path of a UTF-8 text file."
        ) from None


def _read_hub(section: TargetSection) -> bytes:
    """The texts of a hub dataset's rows, joined by newlines."""
    from pipeline.corpus.hub import HubDataset  # loads `datasets`: seconds that a local target does not pay

    assert section.hub is not None, "called for a hub target"
    dataset = HubDataset.resolve(section.hub, section.subset, section.split, section.revision)
    rows = [row[section.field] for row in dataset.rows((section.field,))]
    texts = [text for text in rows if isinstance(text, str)]
    if len(texts) < len(rows):
        raise ConfigError(
            f"target.hub {section.hub}: not every row has text in the field {section.field!r}.",
            remedy="Set target.field to the column that holds the text.",
        )
    return "\n".join(texts).encode()


def _decoded(target: TargetText) -> str:
    try:
        return target.data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"The target {target.name} is not UTF-8: byte {error.start:,} is 0x{target.data[error.start]:02x}.",
            remedy="Convert it, for example with iconv -t UTF-8.",
        ) from None


def _check_length(target: TargetText, text: str, splits: dict[str, str]) -> None:
    lengths = ", ".join(f"{split} {len(content):,}" for split, content in splits.items())
    if len(text) < MIN_CHARACTERS or not all(splits.values()):
        raise DataError(
            f"The target {target.name} has {len(text):,} characters, cut into {lengths}.",
            remedy=f"Give at least {MIN_CHARACTERS:,} characters and shares that leave no split empty.",
        )
