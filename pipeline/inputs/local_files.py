"""The files that a path or a pattern names, without reading them."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import ConfigError, DataError, EnvironmentFault
from pipeline.inputs.data_paths import located
from pipeline.inputs.missing_files import nothing_found, refuse_address
from pipeline.runtime.files import sha256_of

LINE_SUFFIXES = (".jsonl", ".ndjson", ".json")
TEXT_SUFFIXES = (".txt", ".text")
SUFFIXES = (*LINE_SUFFIXES, *TEXT_SUFFIXES, ".parquet")  # of the files that a corpus is read from
READABLE = f"{', '.join(SUFFIXES)}, each also with .gz or .zst"


class LocalFile(NamedTuple):
    """A file as it was found. `name` is its path below the folder that all files of the pattern have in common."""

    path: str
    name: str
    bytes: int
    mtime_ns: int
    ctime_ns: int
    device: int
    inode: int
    sha256: str = ""  # empty until somebody asked for it


class Unreadable(NamedTuple):
    """Something that a pattern matched and that is no file: a dangling link, a pipe."""

    name: str
    reason: str  # "dangling_link" or "no_regular_file"


class Matches(NamedTuple):
    """What a pattern names, sorted by name. Folders are no match: a pattern says with ** that it means their files."""

    files: tuple[LocalFile, ...]
    unreadable: tuple[Unreadable, ...] = ()


def local_files(text: str, folder: Path, where: str = "path") -> Matches:
    """The files of a path or pattern as a config in `folder` writes it; `where` names its key in a refusal.

    A path that exists as it is written is taken so, whatever wildcards are in it. Raises ConfigError if there is no
    file, with what is there instead, and EnvironmentFault if a folder cannot be looked into.
    """
    refuse_address(text, where)
    path = located(text, folder, where)
    pattern = _literal_where_it_exists(path)
    _refuse_closed_folders(pattern, where)
    found = sorted(glob.glob(pattern, recursive=True))
    states = [(entry, _state(entry)) for entry in found]
    files = [(entry, state) for entry, state in states if state is not None and stat.S_ISREG(state.st_mode)]
    others = [(entry, state) for entry, state in states if state is None or _is_special(state)]
    if not files:
        raise nothing_found(text, path, where, [entry for entry, _ in others])
    names = _names([entry for entry, _ in (*files, *others)])
    return Matches(
        tuple(sorted((_local_file(entry, names[entry], state) for entry, state in files), key=lambda file: file.name)),
        tuple(Unreadable(names[entry], "no_regular_file" if state else "dangling_link") for entry, state in others),
    )


def is_supported(name: str) -> bool:
    """Whether records can be read from a file of this name; case matters."""
    return name.removesuffix(".zst").removesuffix(".gz").endswith(SUFFIXES)


def is_record_file(name: str) -> bool:
    """Whether a file of this name holds many records, and not one text."""
    return is_supported(name) and not name.removesuffix(".zst").removesuffix(".gz").endswith(TEXT_SUFFIXES)


def refuse_unsupported(files: Sequence[LocalFile], text: str, where: str) -> None:
    """Raise ConfigError if records cannot be read from one of the files, with patterns that leave it out."""
    others = [file.name for file in files if not is_supported(file.name)]
    if not others:
        return
    names = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
    kept = sorted({_suffix(file.name) for file in files if is_supported(file.name)})
    folder, _, last = text.rpartition("/")
    start = f"{text}/" if last == "**" else f"{folder}/" if folder else ""
    patterns = " and ".join(f'"{start}*{suffix}"' for suffix in kept)
    raise ConfigError(
        f"{where}: {names} does not end in one of {READABLE}.",
        remedy=f"Write {patterns}{', a source each' if len(kept) > 1 else ''}." if kept else "Convert what you need.",
    )


def refuse_unsupported_address(address: str, where: str) -> None:
    """Raise ConfigError if records cannot be read from the file that an address of the config names."""
    name = name_of_web_file(address)
    if not is_supported(name):
        raise ConfigError(
            f"{where}: the file {name!r} does not end in one of {READABLE}.",
            remedy="Fetch it and convert it, or give the address of such a file.",
        )


def name_of_web_file(address: str) -> str:
    """The name of the file at an address of the config, variables unfilled but for the suffix, which says how to read.

    >>> name_of_web_file("https://example.org/${PART}.jsonl?token=secret")
    '${PART}.jsonl'
    """
    name, filled = _last_part(address), _last_part(os.path.expandvars(address))
    return name if name == filled or is_supported(name) else name + _suffix(filled)


def _last_part(address: str) -> str:
    return re.split("[?#]", address, maxsplit=1)[0].rpartition("/")[2]


def _suffix(name: str) -> str:
    plain = name.removesuffix(".zst").removesuffix(".gz")
    return os.path.splitext(plain)[1] + name[len(plain) :]


def refuse_changed(file: LocalFile) -> None:
    """Raise DataError if the file no longer holds what it held when its sha256 was taken."""
    state = _state(file.path)
    same = state is not None and _stamp(state) == file[2:7]
    # A touched file is the same text, so where its times differ its bytes decide.
    if same or (state is not None and state.st_size == file.bytes and sha256_of(Path(file.path)) == file.sha256):
        return
    raise DataError(f"{file.path} changed while it was read.", remedy="Run again once it is at rest.")


def _refuse_closed_folders(pattern: str, where: str) -> None:
    """Raise EnvironmentFault for a folder that the pattern looks into and that cannot be listed: `glob` skips it."""
    parts = pattern.split("/")
    for at, part in enumerate(parts):
        if not glob.has_magic(part):
            continue
        above = "/".join([*parts[:at], "**/" if part == "**" else ""])
        for folder in glob.glob(above, recursive=True) if above else ["."]:
            try:
                os.scandir(folder).close()
            except OSError as error:
                raise EnvironmentFault(
                    f"{where}: the folder {folder.rstrip('/')} cannot be listed: {error.strerror}.",
                    remedy="Allow it (chmod u+rx), or write a path that leaves it out.",
                ) from None


def _local_file(path: str, name: str, state: os.stat_result) -> LocalFile:
    return LocalFile(path, name, *_stamp(state))


def _stamp(state: os.stat_result) -> tuple[int, int, int, int, int]:
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_dev, state.st_ino


def _state(path: str) -> os.stat_result | None:
    """What the path leads to; None for a dangling link, or one that leads to itself."""
    try:
        return os.stat(path)
    except OSError:
        return None


def _is_special(state: os.stat_result) -> bool:
    return not stat.S_ISREG(state.st_mode) and not stat.S_ISDIR(state.st_mode)


def _names(paths: list[str]) -> dict[str, str]:
    # Relative to what the files have in common, so that another data folder gives the same names and order.
    folders = {os.path.dirname(path) for path in paths}
    root = os.path.commonpath(folders) if folders != {""} else ""
    cut = len(root.rstrip("/")) + 1 if root else 0
    # As UTF-8 can hold it: a file name may be any bytes, which Python keeps as lone surrogates.
    return {path: path[cut:].lstrip("/").encode("utf-8", "backslashreplace").decode() for path in paths}


def _literal_where_it_exists(pattern: str) -> str:
    """The pattern with brackets and stars escaped in the folders that exist under that very name, from the left."""
    done, left = "", pattern
    while left:
        part, slash, left = left.partition("/")
        if glob.has_magic(part) and not os.path.lexists(done + part):
            return glob.escape(done) + part + slash + left
        done += part + slash
    return glob.escape(done)
