"""What was found out before: the sha256 of files that have not changed since, and the last answers of servers.

A small SQLite file in the user's cache folder. It only saves work: where it cannot be read or written, nothing is
remembered, and nothing fails.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import ConfigError
from pipeline.inputs.local_files import LocalFile
from pipeline.runtime.files import sha256_of
from pipeline.runtime.formatting import readable_bytes
from pipeline.runtime.processes import usable_cores
from pipeline.runtime.progress import Progress

DATABASE = "inputs.sqlite"
TABLES = """
create table if not exists digests (device integer, inode integer, bytes integer, mtime_ns integer, ctime_ns integer,
  sha256 text, primary key (device, inode)) without rowid;
create table if not exists answers (address text primary key, answer text, seen text) without rowid;
"""
# A file that was written this recently may be written again within the same tick of its file system's clock, and would
# look unchanged (what git calls a racy entry): coarse clocks tick every two seconds.
RESTING_NS = 2_000_000_000
ASKED_AT_ONCE = 500  # inodes in one query; SQLite's limit was 999
SAID_BYTES = 2_000_000_000  # reading more than this takes long enough to say so


class Remembered(NamedTuple):
    """The last answer of a server, and the day and minute at which it came."""

    answer: dict[str, str]
    seen: str


def cache_folder() -> Path | None:
    """Folio's folder in the user's cache; None where the user has no home."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return None if base.startswith("~") else Path(base) / "folio"


def with_digests(files: Sequence[LocalFile]) -> list[LocalFile]:
    """The files with their sha256, in the same order; only those are read that are new or have changed.

    Raises ConfigError naming a file that cannot be read.
    """
    known = _known_digests(files)
    unknown = [file for file in files if not file.sha256 and file not in known]
    known |= dict(zip(unknown, _read(unknown), strict=True))
    _remember_digests([file._replace(sha256=known[file]) for file in unknown])
    return [file if file.sha256 else file._replace(sha256=known[file]) for file in files]


def remembered_answer(address: str) -> Remembered | None:
    """What the server of an address (a digest of it: addresses hold secrets) answered last."""
    with _database() as database:
        rows = _rows(database, "select answer, seen from answers where address = ?", [address])
        return next((Remembered(json.loads(answer), seen) for answer, seen in rows), None)


def remember_answer(address: str, answer: dict[str, str]) -> None:
    """Keep a server's answer for the time when it does not answer."""
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M")
    _write("insert or replace into answers values (?, ?, ?)", [(address, json.dumps(answer), f"{now} UTC")])


def _read(files: Sequence[LocalFile]) -> list[str]:
    total = sum(file.bytes for file in files)
    progress = Progress("inputs")
    if total > SAID_BYTES:
        progress.say(f"reading {readable_bytes(total)} once, to know these files again")
    # hashlib lets other threads run meanwhile.
    with progress.task("reading", total, "bytes") as task, ThreadPoolExecutor(min(usable_cores(), 8)) as pool:
        digests = []
        for file, digest in zip(files, pool.map(_digest, files), strict=True):
            task.advance(file.bytes)
            digests.append(digest)
    return digests


def _digest(file: LocalFile) -> str:
    try:
        return sha256_of(Path(file.path))
    except OSError as error:
        raise ConfigError(
            f"{file.path} cannot be read: {error.strerror}.", remedy="Make it readable, or name other files."
        ) from None


def _known_digests(files: Sequence[LocalFile]) -> dict[LocalFile, str]:
    by_device: dict[int, list[LocalFile]] = {}
    for file in files:
        by_device.setdefault(file.device, []).append(file)
    remembered: dict[tuple[int, ...], str] = {}
    with _database() as database:
        for device, several in by_device.items():
            for inodes in _pieces([file.inode for file in several]):
                marks = ",".join("?" * len(inodes))
                query = f"select * from digests where device = ? and inode in ({marks})"
                for _, inode, size, mtime_ns, ctime_ns, sha256 in _rows(database, query, [device, *inodes]):
                    remembered[size, mtime_ns, ctime_ns, device, inode] = sha256
    return {file: remembered[file[2:7]] for file in files if file[2:7] in remembered}


def _remember_digests(files: Sequence[LocalFile]) -> None:
    resting = [file for file in files if time.time_ns() - file.ctime_ns > RESTING_NS]  # any write sets the ctime
    rows = [(file.device, file.inode, file.bytes, file.mtime_ns, file.ctime_ns, file.sha256) for file in resting]
    _write("insert or replace into digests values (?, ?, ?, ?, ?, ?)", rows)


def _pieces(inodes: list[int]) -> Iterator[list[int]]:
    return (inodes[start : start + ASKED_AT_ONCE] for start in range(0, len(inodes), ASKED_AT_ONCE))


def _rows(database: sqlite3.Connection | None, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
    if database is None:
        return []
    try:
        return database.execute(query, values).fetchall()
    except sqlite3.Error:  # damaged, or locked for longer than it is worth waiting
        return []


def _write(statement: str, rows: Sequence[tuple[object, ...]]) -> None:
    if not rows:
        return
    with _database() as database:
        if database is not None:
            with suppress(sqlite3.Error), database:
                database.executemany(statement, rows)


@contextmanager
def _database() -> Iterator[sqlite3.Connection | None]:
    """The database, None where it cannot be had. One that is no database any more is begun anew."""
    folder = cache_folder()
    connection = _opened(folder) if folder else None
    try:
        yield connection
    finally:
        if connection is not None:
            connection.close()


def _opened(folder: Path) -> sqlite3.Connection | None:
    for _ in range(2):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(folder / DATABASE, timeout=1.0)
            connection.executescript(TABLES)
        except sqlite3.OperationalError:  # locked, read-only, no space
            return None
        except sqlite3.DatabaseError:
            with suppress(OSError):
                (folder / DATABASE).unlink()
            continue
        except OSError:
            return None
        return connection
    return None
