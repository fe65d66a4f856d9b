"""One writer per artifact. The kernel drops the lock with its holder, so a dead process never blocks the next one."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pipeline.errors import EnvironmentFault

LOCK = ".lock"


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder` while the block runs.

    Raises EnvironmentFault naming the host and process that hold it already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Append mode: opening must not erase the name of a holder that this process is about to read.
    with (folder / LOCK).open("a+") as file:
        if not _taken(file):
            file.seek(0)
            raise EnvironmentFault(
                f"{folder} is being written by {_holder(file.read())}.", remedy="Wait for it, or stop it and run again."
            )
        file.truncate(0)
        file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
        file.flush()
        yield


def held(folder: Path) -> bool:
    """Whether some process is writing the artifact now."""
    try:
        with (folder / LOCK).open("r") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _taken(file: IO[str]) -> bool:
    """Whether the lock could be taken within a second."""
    # Once is not enough: `folio status` in another process takes the lock for an instant to see whether it is free.
    for _ in range(10):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.1)
    return False


def _holder(text: str) -> str:
    try:
        holder = json.loads(text)
        return f"process {holder['pid']} on {holder['host']}"
    except (ValueError, KeyError):
        return "another process"
