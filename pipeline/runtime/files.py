"""Files that are complete or absent, their hashes, and one line for what the machine refuses."""

from __future__ import annotations

import errno
import hashlib
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pipeline.errors import EnvironmentFault
from pipeline.runtime.formatting import readable_bytes

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)  # the latter is a user's quota
# EEXIST and ENOTDIR are what a file in the place of a folder gives.
NO_ACCESS = (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST)
READ_BYTES = 1 << 20
DRAFT = ".tmp"  # ending of the name of what is not complete


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """The path of a draft to write; when the block ends without an error the draft replaces `path`.

    A reader sees the old file or the new one, never a mixture; if `durable`, also after a power cut. When the block
    raises, `path` is as it was, and the draft stays until the next attempt overwrites it.
    """
    # In the same folder, since a rename is atomic within one file system only.
    draft = path.with_name(path.name + DRAFT)
    yield draft
    # The content before the name: a file system may store the rename first, and a power cut would leave an empty file.
    if durable:
        sync(draft)
    draft.replace(path)
    # And the folder after it: otherwise the power cut may bring the old file back after the caller went on.
    if durable:
        sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a small UTF-8 file with `replacing`."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file with `replacing`."""
    with replacing(path) as draft:
        draft.write_bytes(data)


def sync(path: Path) -> None:
    """Have the kernel write a file, or the entries of a folder, to the disk. Slow: milliseconds on a disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """Hex digest of a file, read in pieces: about 1.5 GB/s on one core."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file: IO[bytes]) -> str:
    # Python 3.10 has no hashlib.file_digest.
    digest = hashlib.sha256()
    while piece := file.read(READ_BYTES):
        digest.update(piece)
    return digest.hexdigest()


@contextmanager
def environment_faults(folder: Path, remedy: str = "Give a writable FOLIO_STORE.") -> Iterator[None]:
    """Turn a full disk or a refused access into an EnvironmentFault of one line; `remedy` is for what is in `folder`.

    What lies elsewhere, such as a library's cache, is named with a remedy of its own. Any other OSError is a bug of
    ours, and passes with its traceback.
    """
    try:
        yield
    except OSError as error:
        # Some calls, such as `write`, name no file: then the folder has to do.
        where = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else folder
        if error.errno in FULL_DISK:
            raise EnvironmentFault(
                f"No space left for {where} ({room_left(where)}).", remedy="Make room, run again."
            ) from error
        if error.errno in NO_ACCESS:
            cure = remedy if _on_one_path(where, folder) else _remedy_elsewhere(where)
            raise EnvironmentFault(f"{where}: {error.strerror}.", remedy=cure) from error
        raise


def room_left(path: Path) -> str:
    """What a file below `path` would find: "204.9 MB free", and first of all that there are no inodes, if so."""
    place = existing_parent(path)
    free = f"{readable_bytes(shutil.disk_usage(place).free)} free"
    return f"its inodes are used up: fewer files, not smaller ones; {free}" if inodes_left(place) == 0 else free


def inodes_left(folder: Path) -> float:
    """How many more files fit; infinitely many on a file system that makes inodes as it needs them."""
    system = os.statvfs(folder)
    return system.f_favail if system.f_files else math.inf


def _on_one_path(one: Path, other: Path) -> bool:
    """Whether one of the two lies below the other: what stops a folder from being written may be a folder above it."""
    one, other = one.absolute(), other.absolute()
    return one.is_relative_to(other) or other.is_relative_to(one)


def _remedy_elsewhere(path: Path) -> str:
    access = "Let this user read and write it"
    return f"{access}, or set HF_HOME to a folder of your own." if "huggingface" in path.parts else f"{access}."


def existing_parent(path: Path) -> Path:
    """The path itself if it exists, else its nearest parent that does."""
    path = path.absolute()
    return path if path.exists() else existing_parent(path.parent)
