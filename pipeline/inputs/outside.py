"""Everything that a run reads from outside the store, as it is now: found, and identified by what it holds.

Paths are no identity. Files are identified by their sha256 and their names below the folder that they have in common,
a hub dataset by its commit, an address by what its server says of the file (ETag, Last-Modified, length).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.addresses import user_and_address, without_secrets
from pipeline.config.schema import Config
from pipeline.config.source_names import name_of_path, name_of_url
from pipeline.config.text_sections import CorpusSection, SourceSection, TargetSection
from pipeline.config.training_sections import PretrainedSection
from pipeline.errors import ConfigError, DataError, EnvironmentFault, FolioError
from pipeline.inputs import named_target
from pipeline.inputs.data_paths import filled_in, located
from pipeline.inputs.file_memory import remember_answer, remembered_answer, with_digests
from pipeline.inputs.hub_commit import COMMIT, hub_commit, refuse_local_folder
from pipeline.inputs.local_files import (
    LocalFile,
    Unreadable,
    is_record_file,
    local_files,
    name_of_web_file,
    refuse_changed,
    refuse_unsupported,
    refuse_unsupported_address,
)
from pipeline.inputs.stand_ins import docstrings_identity, language_reference_identity

INSTALLED_TEXT = "installed text"
_STANDS_IN = "Text of the installation stands in for it: a demonstration, not a result."
WEIGHT_SUFFIXES = (".safetensors", ".json", ".txt")  # what a folder of pretrained weights is read from


@dataclass(frozen=True)
class OutsideText:
    """One text from outside: a target, a source of the corpus, or the files of a folder of weights.

    `shown` is how messages and manifests call it; it holds no secret and no folder above the pattern. `identity` is
    name -> sha256 of files, or what their server says; where it is the same, the text is the same.
    """

    shown: str
    kind: Literal["file", "files", "hub", "web", "installed"]
    identity: Mapping[str, str]
    # Where it is now: a path, the name of a hub dataset, or a URL as the config writes it, which may hold a secret.
    address: str = ""
    files: tuple[LocalFile, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    note: str = ""  # what an operator should know of how it was identified, or why it stands in for another

    @property
    def files_name(self) -> str:
        """The name of the one file that a web address leads to, as the config writes it."""
        return name_of_web_file(self.address)

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()

    def record(self) -> dict[str, Any]:
        """What an artifact keeps, so that a later plan can say what changed."""
        return {"shown": self.shown, "kind": self.kind, "identity": dict(self.identity)}

    def refuse_changed(self) -> None:
        """Raise DataError if it is not what it was when it was identified. A server that is silent now is believed."""
        for file in self.files:
            refuse_changed(file)
        if self.kind == "web":
            refuse_changed_on_server(self)


Texts = Mapping[str, OutsideText]  # by name: of the source, or "target" or "pretrained"


@dataclass(frozen=True)
class Outside:
    """The outside texts of a run, by the key of the config that names them; `faults` holds, by the same keys, why those
    of a key are unknown.
    """

    texts: Mapping[str, Texts]
    faults: Mapping[str, FolioError]

    def identity(self, key: str) -> Any:
        """What enters a fingerprint for the texts of a key: their digests by name."""
        if key in self.faults:
            return {"unknown": str(self.faults[key])}  # of nothing that is finished
        return {name: text.digest for name, text in self.texts[key].items()}

    def refuse_unknown(self) -> None:
        """Raise the first reason why a text is unknown."""
        for fault in self.faults.values():
            raise fault

    @property
    def notes(self) -> list[str]:
        """What an operator should know: whose server was silent, and what stands in for a missing text."""
        noted = [text for texts in self.texts.values() for text in texts.values() if text.note]
        return [f"{text.note} {_STANDS_IN}" if text.kind == "installed" else text.note for text in noted]


def look_outside(config: Config) -> Outside:
    """Find and identify what the run reads. Asks servers where the config names them; never raises a refusal."""
    folder = config.folder
    looks: dict[str, Callable[[], Texts]] = {"target": lambda: {"target": find_target(config.target, folder)}}
    if config.pretrained is not None:
        pretrained = config.pretrained
        looks["pretrained"] = lambda: {"pretrained": find_weights(pretrained, folder)}
    elif config.corpus.sources or config.corpus.fallback:
        looks["corpus"] = lambda: find_sources(config.corpus, folder)
    texts: dict[str, Texts] = {}
    faults: dict[str, FolioError] = {}
    for key, look in looks.items():
        try:
            texts[key] = look()
        except FolioError as fault:
            faults[key] = fault
    return Outside(texts, faults)


def find_target(section: TargetSection, folder: Path = Path()) -> OutsideText:
    """The target. Raises ConfigError if it is missing, EnvironmentFault if no server answers and none ever did."""
    try:
        return _configured_target(section, folder)
    except (ConfigError, EnvironmentFault) as fault:
        if not section.fallback:
            raise
        return OutsideText(INSTALLED_TEXT, "installed", language_reference_identity(), note=fault.message)


def find_sources(section: CorpusSection, folder: Path = Path()) -> dict[str, OutsideText]:
    """The sources by name, or the installed text that stands in for them. Raises as `find_source` does."""
    try:
        # All before the first is read: a typo in the last source should not surface after hours.
        if not section.sources:
            raise ConfigError("corpus.sources is empty.", remedy="Name at least one path, url or hub dataset.")
        return {source.name: find_source(source, folder) for source in section.sources}
    except (ConfigError, EnvironmentFault) as fault:
        if not section.fallback:
            raise
        stand_in = OutsideText(INSTALLED_TEXT, "installed", docstrings_identity(), note=fault.message)
        return {INSTALLED_TEXT: stand_in}


def find_source(section: SourceSection, folder: Path = Path()) -> OutsideText:
    """A source of the corpus. Raises ConfigError if it is missing, EnvironmentFault if its server was never heard."""
    where = f"Source {section.name}"
    if section.hub is not None:
        return _hub_dataset(section.hub, section.revision, folder, where)
    if section.url is not None:
        return _web_file(section.url, where)
    assert section.path is not None, "the config gives each source exactly one origin"
    matches = local_files(section.path, folder, where)
    refuse_unsupported(matches.files, section.path, where)
    files = tuple(with_digests(matches.files))
    identity = {file.name: file.sha256 for file in files}
    return OutsideText(name_of_path(section.path), "files", identity, "", files, matches.unreadable)


def find_weights(section: PretrainedSection, folder: Path = Path()) -> OutsideText:
    """The files of a folder of weights that decide what is imported. Raises ConfigError if there is no such folder."""
    where = "pretrained.path"
    path = located(section.path, folder, where)
    if not Path(path).is_dir():
        raise ConfigError(
            f"{where}: there is no folder {path!r}.", remedy="Give a folder as `transformers` saves a model."
        )
    matches = local_files("*", Path(path), where)
    files = tuple(with_digests([file for file in matches.files if file.name.endswith(WEIGHT_SUFFIXES)]))
    return OutsideText(name_of_path(section.path), "files", {file.name: file.sha256 for file in files}, path, files)


def _configured_target(section: TargetSection, folder: Path) -> OutsideText:
    if section.hub is not None:
        return _hub_dataset(section.hub, section.revision, folder, "target.hub")
    if section.path is not None:
        files = tuple(with_digests(local_files(section.path, folder, "target.path").files))
        if len(files) == 1 and not is_record_file(files[0].name):  # one text, whatever its name
            return OutsideText(name_of_path(section.path), "file", {"sha256": files[0].sha256}, files[0].path, files)
        refuse_unsupported(files, section.path, "target.path")
        return OutsideText(name_of_path(section.path), "files", {file.name: file.sha256 for file in files}, "", files)
    if section.fallback and named_target.local_copy() is None and not named_target.can_be_fetched():
        raise EnvironmentFault(
            "Tiny Shakespeare is not in FOLIO_DATA, not in the cache, and its server does not answer.",
            remedy=f"Set FOLIO_DATA to a folder with {named_target.RELATIVE_PATH}, or connect.",
        )
    # Whatever the copy holds: the stage reads it, and refuses another text.
    return OutsideText("tiny-shakespeare", "file", {"sha256": named_target.SHA256})


def _hub_dataset(name: str, revision: str, folder: Path, where: str) -> OutsideText:
    name, revision = filled_in(name, where), filled_in(revision, where)
    refuse_local_folder(name, folder, where)
    if COMMIT.fullmatch(revision):
        return OutsideText(name, "hub", {"commit": revision}, name)
    answer, note = _asked(f"hub {name} {revision}", name, lambda: {"commit": hub_commit(name, revision).commit})
    return OutsideText(name, "hub", answer, name, note=note)


def _web_file(url: str, where: str) -> OutsideText:
    address = filled_in(url, where)
    if not address.startswith(("http://", "https://")):
        raise ConfigError(f"{where}: url does not begin with https://.", remedy="Write path: for a file.")
    refuse_unsupported_address(url, where)
    answer, note = _asked(address, name_of_url(url), lambda: _validator(url))
    # A validator means something for its address only, but a new token is no new text. Where the server says nothing of
    # what the file holds, any value of the query may be what tells two files apart.
    own = without_secrets(url) if answer.keys() & {"etag", "modified"} else user_and_address(url)[1]
    identity = {"address": hashlib.sha256(own.encode()).hexdigest(), **answer}
    return OutsideText(name_of_url(url), "web", identity, url, note=note)


def _validator(address: str) -> dict[str, str]:
    from pipeline.inputs.http_file import HttpFile  # TLS and all: a tenth of the time of a run with nothing to do

    with HttpFile(address, attempts=2, timeout_seconds=5.0) as file:
        return file.validator()


def refuse_changed_on_server(text: OutsideText) -> None:
    """Raise DataError if the server of a web file names another validator than when it was identified."""
    try:
        now = _validator(text.address)
    except EnvironmentFault:
        return
    if {"address": text.identity["address"], **now} != text.identity:
        raise DataError(f"{text.shown} changed while it was read.", remedy="Run again once it is at rest.")


def _asked(address: str, shown: str, ask: Callable[[], dict[str, str]]) -> tuple[dict[str, str], str]:
    """What a server says, or said last if it does not answer, and then a note that says so."""
    # By digest, because addresses hold secrets.
    key = hashlib.sha256(address.encode()).hexdigest()
    try:
        answer = ask()
    except EnvironmentFault:
        remembered = remembered_answer(key)
        if remembered is None:
            raise
        return remembered.answer, f"{shown} does not answer: taken to be as it was on {remembered.seen}."
    remember_answer(key, answer)
    return answer, ""
