"""Stage `target`: the text whose validation loss is reported, cut into train, selection and validation.

    train.txt        fits the arms                                    the rest, at the beginning
    selection.txt    chooses learning rate and best step              just before the validation split
    validation.txt   is scored once, by the report                    the last `validation` share of the characters

The splits are consecutive and cut by character count, after the text was normalised as the corpus is (`text_encoding`):
without a byte-order mark, newlines as \\n, no control characters. That changes nothing of Tiny Shakespeare, whose
validation split begins at character 1,003,854, where the lecture and nanoGPT cut it.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.text_sections import TargetSection
from pipeline.corpus.fields import value_at
from pipeline.corpus.installed_text import language_reference
from pipeline.corpus.splits import target_file
from pipeline.corpus.text_encoding import Undecodable, decoded_file, normalised
from pipeline.errors import ConfigError, DataError, EnvironmentFault
from pipeline.graph.stage_counts import TargetCounts
from pipeline.graph.work import Work
from pipeline.inputs import named_target
from pipeline.inputs.file_memory import cache_folder
from pipeline.inputs.http_file import HttpFile
from pipeline.inputs.local_files import LocalFile
from pipeline.inputs.named_target import RELATIVE_PATH, local_copy
from pipeline.inputs.outside import INSTALLED_TEXT, OutsideText, find_target
from pipeline.runtime.files import write_bytes
from pipeline.runtime.progress import Progress

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
    target = _target(section, work.outside.get("target") or find_target(section), work.progress)
    text = _decoded(target, section)
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
        bytes=len(text.encode()),
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


def _target(section: TargetSection, text: OutsideText, progress: Progress) -> TargetText:
    if text.kind == "installed":
        progress.say(f"TARGET NOT FOUND: {text.note}")
        progress.say(
            "Using Python's own language reference instead (pydoc_data.topics): a demonstration, not a result."
        )
        return TargetText(language_reference().encode(), "python-language-reference", INSTALLED_TEXT)
    if text.kind == "hub":
        return TargetText(_read_hub(section, text), text.address, "hub")
    return TargetText(_read_file(text.files[0]), text.shown, "path") if text.files else _tiny_shakespeare()


def _read_file(file: LocalFile) -> bytes:
    try:
        data = Path(file.path).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"target.path: {file.path} cannot be read: {error.strerror}.", remedy="Make it readable."
        ) from None
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise DataError(f"{file.path} changed while it was read.", remedy="Run again once it is at rest.")
    return data


def _tiny_shakespeare() -> TargetText:
    copy = local_copy()
    if copy is not None:
        return TargetText(_checked(copy.path.read_bytes(), str(copy.path)), "tiny-shakespeare", copy.origin)
    data = _checked(_download(), named_target.URL)
    _keep(data)
    return TargetText(data, "tiny-shakespeare", "network")


def _checked(data: bytes, place: str) -> bytes:
    digest = hashlib.sha256(data).hexdigest()
    if digest != named_target.SHA256:
        raise DataError(
            f"{place} has sha256 {digest}, Tiny Shakespeare has {named_target.SHA256}.",
            remedy="Delete that file to have it fetched again, or give the text as target.path.",
        )
    return data


def _download() -> bytes:
    try:
        # Little patience: this file is one megabyte.
        with HttpFile(named_target.URL, attempts=2, timeout_seconds=3.0) as file:
            return file.read()
    except (EnvironmentFault, ConfigError) as error:
        place = f", not in {cache_folder()}," if cache_folder() else ""
        raise EnvironmentFault(
            f"Tiny Shakespeare is not in FOLIO_DATA{place} and was not downloaded: {error.message}",
            remedy=f"Set FOLIO_DATA to a folder with {RELATIVE_PATH}, give a text as target.path, or connect.",
        ) from None


def _keep(data: bytes) -> None:
    """Leave a copy in the cache, if it can be written."""
    cache = cache_folder()
    # The text is in memory: a read-only or full cache is not a reason to stop.
    with suppress(OSError):
        if cache is not None:
            (cache / RELATIVE_PATH).parent.mkdir(parents=True, exist_ok=True)
            write_bytes(cache / RELATIVE_PATH, data)


def _read_hub(section: TargetSection, text: OutsideText) -> bytes:
    """The texts of a hub dataset's rows, joined by newlines."""
    from pipeline.corpus.hub import HubDataset  # loads `datasets`: seconds that a local target does not pay

    dataset = HubDataset.resolve(text.address, section.subset, section.split, text.identity["commit"])
    rows = [value_at(row, section.field) for row in dataset.rows((section.field,))]
    texts = [text for text in rows if isinstance(text, str)]
    if len(texts) < len(rows):
        raise ConfigError(
            f"target.hub {dataset.name}: not every row has text in the field {section.field!r}.",
            remedy="Set target.field to the column that holds the text.",
        )
    return "\n".join(texts).encode()


def _decoded(target: TargetText, section: TargetSection) -> str:
    try:
        return normalised(decoded_file(target.data, section.encoding)).decode()
    except Undecodable as error:
        cure = f"Set target.encoding: {error.guesses[0]}" if error.guesses else "Set target.encoding to what it is in"
        raise DataError(
            f"The target {target.name} is not {section.encoding or 'UTF-8'}: {error.detail}.",
            remedy=f"{cure}, or convert it to UTF-8.",
        ) from None


def _check_length(target: TargetText, text: str, splits: dict[str, str]) -> None:
    lengths = ", ".join(f"{split} {len(content):,}" for split, content in splits.items())
    if len(text) < MIN_CHARACTERS or not all(splits.values()):
        raise DataError(
            f"The target {target.name} has {len(text):,} characters, cut into {lengths}.",
            remedy=f"Give at least {MIN_CHARACTERS:,} characters and shares that leave no split empty.",
        )
