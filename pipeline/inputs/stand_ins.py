"""What identifies the texts that stand in for missing ones in a demonstration: they come with the installation."""

from __future__ import annotations

import hashlib
import platform
import sysconfig
from pathlib import Path


def language_reference_identity() -> dict[str, str]:
    """Of the target: the language reference is a part of Python."""
    return {"python": platform.python_version()}


def docstrings_identity() -> dict[str, str]:
    """Of the corpus: the docstrings are those of Python and of every installed package."""
    # Names and versions are in the names of folders: nothing has to be opened.
    folders = {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}
    packages = sorted({entry.name for folder in folders for entry in folder.glob("*.dist-info")})
    return {**language_reference_identity(), "packages": hashlib.sha256("\n".join(packages).encode()).hexdigest()}
