"""The manifest of a finished artifact, `manifest.json`: written last and atomically, so present means finished."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import DataError
from pipeline.runtime.files import DRAFT, sha256_of, write_text

MANIFEST = "manifest.json"
OUTSIDE = "outside.json"  # name -> record of an outside text: beside the manifest, since it may name thousands of files
FORMAT = 1


class FileEntry(BaseModel):
    """One file of an artifact; `path` is relative to the artifact's folder and stays below it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    path: str
    bytes: int
    sha256: str


class Manifest(BaseModel):
    """What an artifact is (fingerprint, config slice, inputs), what it holds (files, counts) and what it cost."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int = FORMAT
    stage: str
    run: str
    fingerprint: str
    config: dict[str, Any]
    inputs: dict[str, str]
    files: tuple[FileEntry, ...]
    counts: dict[str, Any]
    seconds: float
    rank_seconds: float
    peak_memory_bytes: int
    finished: str
    versions: dict[str, str]
    git_commit: str
    # Name -> digest of each text that was read from outside the store; OUTSIDE has what it was. None in artifacts made
    # before texts were identified by content.
    outside: dict[str, str] | None = None


def file_entries(folder: Path, ignored: Iterable[str] = ()) -> tuple[FileEntry, ...]:
    """Size and sha256 of every file below `folder`, sorted by path; files named in `ignored` are left out.

    So are drafts: one of the manifest, left by a process that was killed, is about to become the manifest.
    """
    skip = {MANIFEST, *ignored}
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != DRAFT)
    paths = sorted(path for path in files if path.name not in skip)
    return tuple(FileEntry(path=str(p.relative_to(folder)), bytes=p.stat().st_size, sha256=sha256_of(p)) for p in paths)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    write_text(folder / MANIFEST, manifest.model_dump_json(indent=1) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a finished artifact. Raises DataError if it is missing, damaged or points outside the folder."""
    path = folder / MANIFEST
    remedy = f"Delete the folder {folder} and run its stage again."
    try:
        manifest = Manifest.model_validate(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise DataError(f"{path} is missing: the artifact is not finished.", remedy="Run its stage again.") from None
    except (ValueError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise DataError(f"{path} is damaged ({reason}).", remedy=remedy) from None
    if manifest.format != FORMAT:
        raise DataError(f"{path} has format {manifest.format}, this Folio reads {FORMAT}.", remedy=remedy)
    # A manifest may come from elsewhere: no path in it may lead to a file outside its folder.
    for entry in manifest.files:
        if not (folder / entry.path).resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{path} names {entry.path}, which lies outside the artifact.", remedy=remedy)
    return manifest


def damaged_files(folder: Path, entries: Sequence[FileEntry], *, quick: bool = False) -> list[str]:
    """Path and reason of each file that is missing or differs from the manifest in size or, unless `quick`, in hash."""
    return [f"{entry.path} {why}" for entry in entries if (why := _damage(folder / entry.path, entry, quick))]


def _damage(path: Path, entry: FileEntry, quick: bool) -> str:
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if size != entry.bytes:
        return f"has {size:,} bytes instead of {entry.bytes:,}"
    return "has another sha256" if not quick and sha256_of(path) != entry.sha256 else ""
