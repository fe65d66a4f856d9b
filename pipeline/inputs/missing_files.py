"""Why a path of the config leads to no file: what is there instead, and what to write."""

from __future__ import annotations

import difflib
import glob
import os
import re
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from pipeline.errors import ConfigError

SHOWN = 5  # names in a message
MOST_ENTRIES = 10_000  # of a folder that are looked at for a message
READABLE = (".jsonl", ".txt", ".parquet", ".ndjson", ".json", ".text")
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def refuse_address(text: str, where: str) -> None:
    """Raise ConfigError for a path that is the address of a file elsewhere."""
    if not re.match(r"[a-z0-9]+://", text):
        return
    scheme = text.partition(":")[0]
    if where.startswith("target"):
        remedy = "Fetch the file and give its path: a target is a file, a pattern, or a hub dataset."
    else:
        remedy = "Write hub: and the dataset's name." if scheme == "hf" else "Write url: instead of path:."
    raise ConfigError(f"{where}: path is an address ({scheme}://), not a file.", remedy=remedy)


def nothing_found(text: str, path: str, where: str, no_files: Sequence[str]) -> ConfigError:
    """The refusal for the path `text` that was looked for as `path`; `no_files` are links and pipes that it leads to.

    Says what is there instead, and what to write.
    """
    if no_files:
        first = no_files[0]
        what = f"a link to {os.readlink(first)}, which is not there" if os.path.islink(first) else "no regular file"
        return ConfigError(f"{where}: {first} is {what}.", remedy="Repair it, or name a file.")
    if os.path.isdir(path):
        return _folder_instead(text, path, where)
    what = f"no file matches {path!r}" if glob.has_magic(path) else f"there is no file {path!r}"
    return ConfigError(f"{where}: {what}.", remedy=_remedy(text, path))


def _folder_instead(text: str, path: str, where: str) -> ConfigError:
    here, below = _suffixes(path, "*"), _suffixes(path, "**/*")
    counted = here or below
    if not counted:
        return ConfigError(f"{where}: {path} is a folder without files.", remedy="Name a file, or another folder's.")
    content = ", ".join(f"{number:,} {suffix or 'without a suffix'}" for suffix, number in counted.most_common(SHOWN))
    inside = "" if here else " in its subfolders"
    # Escaped, because the folder's own name may hold brackets.
    wanted = [part for part in (glob.escape(text.rstrip("/")), "" if here else "**", f"*{_to_read(counted)}") if part]
    return ConfigError(
        f"{where}: {path} is a folder ({content}{inside}).", remedy=f'Write "{"/".join(wanted)}" for its files.'
    )


def _to_read(counted: Counter[str]) -> str:
    """The most frequent suffix, of those that a corpus can be read from if there are any."""
    readable = [suffix for suffix, _ in counted.most_common() if suffix.startswith(READABLE)]
    return next(iter([*readable, *(suffix for suffix, _ in counted.most_common() if suffix)]), "")


def _suffixes(folder: str, pattern: str) -> Counter[str]:
    """How many files have which suffix; of compressed files both."""
    found: Counter[str] = Counter()
    for path in islice(glob.iglob(f"{glob.escape(folder)}/{pattern}", recursive=True), MOST_ENTRIES):
        if os.path.isfile(path):
            plain, last = os.path.splitext(os.path.basename(path))
            found[os.path.splitext(plain)[1] + last if last in (".gz", ".zst") else last] += 1
    return found


def _remedy(text: str, path: str) -> str:
    data = os.environ.get("FOLIO_DATA")
    if data and Path(path).is_relative_to(data) and not os.path.isdir(data):
        return f"FOLIO_DATA is {data}, and there is no such folder: set it to the folder with your data."
    if path != text and glob.glob(text, recursive=True):
        return f"Relative paths start at the folder of the config; from there write {os.path.abspath(text)!r}."
    if HUB_NAME.fullmatch(text) and not os.path.splitext(text)[1]:
        return f"Correct the path, or write hub: {text} if this is a dataset of the Hugging Face hub."
    folder = _existing_folder(path)
    wanted = os.path.relpath(path, folder or ".").partition("/")[0]
    try:
        names = sorted(name for name in os.listdir(folder or ".") if not name.startswith("."))
    except OSError as error:
        return f"{folder} cannot be listed: {error.strerror}."
    shown = difflib.get_close_matches(wanted, names, n=SHOWN) or names[:SHOWN]
    more = ", ..." if len(names) > len(shown) else ""
    there = f"has {', '.join(shown)}{more}" if names else "is empty"
    return f"Correct the path: {folder or 'the current folder'} {there}."


def _existing_folder(path: str) -> str:
    """The nearest folder above the path that exists; empty for the current one."""
    folder = os.path.dirname(path)
    while folder and not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder
