"""The documents of the target: one text, every file of a pattern, or every record of its files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.text_sections import TargetSection
from pipeline.corpus.cleaning import CleaningRules, Rejected, name_and_text
from pipeline.corpus.fields import closest_key, value_at
from pipeline.corpus.installed_text import language_reference
from pipeline.corpus.records import read_file
from pipeline.corpus.text_encoding import Undecodable, decoded_file, normalised
from pipeline.errors import ConfigError, DataError, EnvironmentFault
from pipeline.inputs import named_target
from pipeline.inputs.file_memory import cache_folder
from pipeline.inputs.http_file import HttpFile
from pipeline.inputs.local_files import LocalFile, is_record_file
from pipeline.inputs.named_target import RELATIVE_PATH, local_copy
from pipeline.inputs.outside import INSTALLED_TEXT, OutsideText
from pipeline.runtime.files import write_bytes
from pipeline.runtime.progress import Progress


@dataclass(frozen=True)
class TargetText:
    """The documents of the target, normalised; the name of the text and where it came from; the sha256 of its bytes.

    Where there are several documents, each ends with a newline.
    """

    documents: tuple[str, ...]
    name: str
    origin: str  # path, FOLIO_DATA, cache, network, hub or installed text
    sha256: str

    @classmethod
    def of_bytes(cls, data: bytes, name: str, origin: str, encoding: str | None = None) -> TargetText:
        """A target that is one text. Raises DataError if it is in another encoding."""
        try:
            text = normalised(decoded_file(data, encoding)).decode()
        except Undecodable as error:
            cure = f"Set target.encoding: {error.guesses[0]}" if error.guesses else "Set target.encoding to its own"
            raise DataError(
                f"The target {name} is not {encoding or 'UTF-8'}: {error.detail}.",
                remedy=f"{cure}, or convert it to UTF-8.",
            ) from None
        return cls((text,), name, origin, hashlib.sha256(data).hexdigest())

    @classmethod
    def of_documents(cls, texts: Iterator[str], name: str, origin: str) -> TargetText:
        """A target of several documents; those without text are left out."""
        documents = tuple(f"{text}\n" for text in (normalised(text).decode().strip("\n") for text in texts) if text)
        digest = hashlib.sha256("".join(f"{len(text)}:{text}" for text in documents).encode())
        return cls(documents, name, origin, digest.hexdigest())


def read_target(section: TargetSection, text: OutsideText, progress: Progress) -> TargetText:
    """The target that was found outside.

    Raises DataError if it is damaged or in another encoding, ConfigError if a record holds no text under
    `target.field`, EnvironmentFault if no server answers.
    """
    if text.kind == "installed":
        progress.say(f"TARGET NOT FOUND: {text.note}")
        progress.say(
            "Using Python's own language reference instead (pydoc_data.topics): a demonstration, not a result."
        )
        return TargetText.of_bytes(language_reference().encode(), "python-language-reference", INSTALLED_TEXT)
    if text.kind == "hub":
        return TargetText.of_documents(_hub_rows(section, text), text.address, "hub")
    if not text.files:
        return _tiny_shakespeare()
    if len(text.files) == 1 and not is_record_file(text.files[0].name):
        return TargetText.of_bytes(_bytes_of(text.files[0]), text.shown, "path", section.encoding)
    return TargetText.of_documents(_records(section, text), text.shown, "path")


def _records(section: TargetSection, text: OutsideText) -> Iterator[str]:
    """The text of every record of the files, in order. Of a target nothing may be lost: the first damage is refused."""
    rules = CleaningRules("target", section.field, 0, Path(), None, section.encoding)
    for file in text.files:
        for record in read_file(file.path, file.name, section.field, section.encoding):
            try:
                yield name_and_text(record, rules)[1]
            except Rejected as rejected:
                if rejected.reason != "null_text":
                    raise _no_text(section, f"{file.name}:{record.line}", rejected) from None
    text.refuse_changed()


def _no_text(section: TargetSection, place: str, rejected: Rejected) -> ConfigError | DataError:
    detail = f" ({rejected.detail})" if rejected.detail else ""
    what = f"The target's {place}: {rejected.reason.replace('_', ' ')}{detail}"
    hints = dict(rejected.hints)
    if rejected.reason in ("missing_field", "missing_column"):
        keys = f", which has {', '.join(hints)}" if hints else ""
        remedy = f"Set target.field: {closest_key(section.field, hints) or 'to the key with the text'}."
        return ConfigError(f"The target's {place} has no {section.field!r}{keys}.", remedy=remedy)
    cure = f"Set target.encoding: {next(iter(hints))}" if "undecodable" in rejected.reason and hints else "Repair it"
    return DataError(f"{what}.", remedy=f"{cure}, or name other files.")


def _hub_rows(section: TargetSection, text: OutsideText) -> Iterator[str]:
    """The texts of a hub dataset's rows."""
    from pipeline.corpus.hub import HubDataset  # loads `datasets`: seconds that a local target does not pay

    dataset = HubDataset.resolve(text.address, section.subset, section.split, text.identity["commit"])
    for row in dataset.rows((section.field,)):
        value = value_at(row, section.field)
        if not isinstance(value, str):
            raise ConfigError(
                f"target.hub {dataset.name}: not every row has text in the field {section.field!r}.",
                remedy="Set target.field to the column that holds the text.",
            )
        yield value


def _bytes_of(file: LocalFile) -> bytes:
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
        return TargetText.of_bytes(_checked(copy.path.read_bytes(), str(copy.path)), "tiny-shakespeare", copy.origin)
    data = _checked(_download(), named_target.URL)
    _keep(data)
    return TargetText.of_bytes(data, "tiny-shakespeare", "network")


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
