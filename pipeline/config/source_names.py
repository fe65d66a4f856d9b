"""What a source of text is called where the config gives it no name: enough to know it again, and nothing private.

Names enter shards and reports. So they come from the config as it was written, with variables unfilled, and hold no
folder above the pattern and no user, password or query of an address.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

WILDCARD = re.compile(r"[*?[]")


def name_of_path(path: str) -> str:
    """A file's own name; a pattern from the folder before its first wildcard.

    >>> name_of_path("${HOME}/my.txt"), name_of_path("/home/me/project/texts/**/*.txt"), name_of_path("*.txt")
    ('my.txt', 'texts/**/*.txt', '*.txt')
    """
    parts = [part for part in PurePath(path).parts if part != PurePath(path).anchor]
    first = next((at for at, part in enumerate(parts) if WILDCARD.search(part)), len(parts))
    return "/".join(parts[max(first - 1, 0) :])


def name_of_url(url: str) -> str:
    """Host and file name of an address.

    >>> name_of_url("https://me:secret@example.org/a/b/texts.jsonl.zst?token=secret")
    'example.org/texts.jsonl.zst'
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:  # brackets that are no IPv6 address: refused when it is opened
        return "url"
    return "/".join(part for part in (host, parts.path.rpartition("/")[2]) if part) or "url"


def name_of_source(values: dict[str, Any]) -> str:
    """The name of a source whose section has these values: of its path, url or hub, whichever is given."""
    for key, name in (("path", name_of_path), ("url", name_of_url), ("hub", str)):
        if values.get(key):
            return name(str(values[key]))
    return ""


def distinct(names: Iterable[str], taken: Iterable[str]) -> list[str]:
    """The names in order, those that are taken already with a number behind them.

    >>> distinct(["texts/*.txt", "texts/*.txt", "b"], taken=["b"])
    ['texts/*.txt', 'texts/*.txt (2)', 'b (2)']
    """
    found: list[str] = []
    used = set(taken)
    for name in names:
        number, own = 1, name
        while own in used:
            number += 1
            own = f"{name} ({number})"
        used.add(own)
        found.append(own)
    return found
