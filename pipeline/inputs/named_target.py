"""Tiny Shakespeare, the target that needs no path: which file it is, and where a copy may lie."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import ConfigError, EnvironmentFault
from pipeline.inputs.file_memory import cache_folder, remember_answer, remembered_answer

URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
# Of that file. Its losses are compared with published ones, so another text under this name would be worse than none.
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
RELATIVE_PATH = Path("tinyshakespeare") / "input.txt"
# How long a server that did not answer is not asked again: the second demo without a network is to be quick, too.
SILENT_SECONDS = 3600


class LocalCopy(NamedTuple):
    """A copy on this machine; `origin` is FOLIO_DATA or cache."""

    path: Path
    origin: str


def local_copy() -> LocalCopy | None:
    """The first copy that is there, unread."""
    data, cache = os.environ.get("FOLIO_DATA"), cache_folder()
    places = [LocalCopy(Path(data) / RELATIVE_PATH, "FOLIO_DATA")] if data else []
    places += [LocalCopy(cache / RELATIVE_PATH, "cache")] if cache else []
    return next((place for place in places if place.path.is_file()), None)


def can_be_fetched() -> bool:
    """Whether the file's server answers now. One that did not is not asked again for an hour."""
    silent = remembered_answer(URL)
    if silent and time.time() - float(silent.answer["silent_since"]) < SILENT_SECONDS:
        return False
    from pipeline.inputs.http_file import HttpFile  # TLS and all, which a run that has a copy does not pay

    try:
        # Little patience: without a network the demo should fall back in seconds.
        with HttpFile(URL, attempts=2, timeout_seconds=3.0) as file:
            file.validator()
    except (EnvironmentFault, ConfigError):
        remember_answer(URL, {"silent_since": str(time.time())})
        return False
    return True
