"""What a path of the config means: `~` and variables filled in, and relative ones from the config's folder."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pipeline.errors import ConfigError

VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


def located(text: str, folder: Path, where: str) -> str:
    """The path that `text` means in a config that lies in `folder`; `where` names its key in a refusal.

    A path that begins with a variable whose value is relative starts at the current folder, as it would in a shell.
    Raises ConfigError for a variable that is not set, and for a `~` whose folder nobody knows.
    """
    path = os.path.expanduser(filled_in(text, where, folder))
    if path.startswith("~") and not os.path.lexists(folder / path):
        raise ConfigError(
            f"{where} {text!r}: there is no home folder for {path.partition('/')[0]}.",
            remedy="Set HOME, or write the whole path.",
        )
    return path if VARIABLE.match(text) else os.path.join(folder, path)


def filled_in(text: str, where: str, folder: Path | None = None) -> str:
    """`text` with the environment's values for its variables. Raises ConfigError naming one that is not set, unless a
    file in `folder` has that very name.
    """
    unset = [name for match in VARIABLE.finditer(text) if not os.environ.get(name := match[1] or match[2])]
    if not unset:
        return VARIABLE.sub(lambda match: os.environ[match[1] or match[2]], text)
    if folder is not None and os.path.lexists(folder / text):
        return text
    remedy = f"Set {unset[0]}, or write the config without it."
    if unset[0] == "FOLIO_DATA":
        remedy = "Set FOLIO_DATA to the folder with your data, or correct the path."
    raise ConfigError(f"{where} {text!r}: the variable {unset[0]} is not set.", remedy=remedy)
