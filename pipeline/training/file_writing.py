"""One rank's files of one checkpoint, written while training goes on: to the disk, and hashed."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from torch import Tensor

from pipeline.graph.manifest import FileEntry
from pipeline.runtime.files import sha256_of, sync

Write = Callable[[Path], None]  # writes a file at the path that it is given


class FileWriting:
    """Writes files in a thread, one after the other; the first that fails is the last."""

    def __init__(self) -> None:
        self._files: list[tuple[Path, Write]] = []
        self._entries: list[FileEntry] = []
        self._failure: Exception | None = None
        self._thread = Thread(target=self._run, name="checkpoint", daemon=True)

    def add(self, path: Path, write: Write) -> None:
        """One more file, before `start`."""
        self._files.append((path, write))

    def write_now(self, path: Path, write: Write) -> None:
        """A file that cannot wait, because there is no memory for a copy of its content."""
        if self._failure is None:
            self._attempt(path, write)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_done(self) -> bool:
        """Whether `entries` would return or raise at once."""
        return not self._thread.is_alive()

    def entries(self) -> list[FileEntry]:
        """Wait until all files are written: size and hash of each. Raises OSError if one could not be."""
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        return self._entries

    def _run(self) -> None:
        # Each once and forgotten, so that the copies are freed as the files are written.
        while self._files and self._failure is None:
            self._attempt(*self._files.pop(0))

    def _attempt(self, path: Path, write: Write) -> None:
        try:
            write(path)
            # Before the checkpoint is renamed into place, or a power cut could leave a whole name on empty files.
            sync(path)
            self._entries.append(FileEntry(path=path.name, bytes=path.stat().st_size, sha256=sha256_of(path)))
        except RuntimeError as error:  # torch's archive writer wraps what the disk said
            self._failure = OSError(errno.EIO, str(error))
        except Exception as error:  # noqa: BLE001 - raised by `entries`, in the thread that asks
            self._failure = error


def bytes_of(state: Any) -> int:
    """How much memory a copy of all tensors in nested dicts, lists and tuples takes."""
    storages: dict[int, int] = {}

    def count(tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()

    _visit(state, count)
    return sum(storages.values())


def copied_to_host(state: Any) -> Any:
    """The same nested dicts, lists and tuples with copies of all tensors in main memory.

    Tensors that share memory still do, so that a file of them holds it once.
    """
    storages: dict[tuple[int, int], torch.UntypedStorage] = {}

    def copied(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        key = (storage.data_ptr(), storage.nbytes())
        if key not in storages:
            content = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
            storages[key] = content.to("cpu", copy=True).untyped_storage()
        empty = torch.empty(0, dtype=tensor.dtype)
        return empty.set_(storages[key], tensor.storage_offset(), tensor.size(), tensor.stride())

    return _visit(state, copied)


def _visit(value: Any, of_tensor: Callable[[Tensor], Any]) -> Any:
    """The value with each of its tensors replaced by what the function makes of it."""
    if isinstance(value, Tensor):
        return of_tensor(value.detach())
    if isinstance(value, Mapping):
        return {key: _visit(entry, of_tensor) for key, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_visit(entry, of_tensor) for entry in value)
    return value
