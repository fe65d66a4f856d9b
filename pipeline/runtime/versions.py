"""Which code made a result: versions of the packages, commit of the checkout."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Those whose version can change a number of the report.
PACKAGES = ("torch", "deepspeed", "datasets", "tokenizers", "tiktoken", "pyarrow", "numpy")


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def git_commit() -> str:
    """Commit of the checkout that this code runs from, with "-dirty" if it has local changes; else "unknown"."""
    here = Path(__file__).parent
    # Twelve digits stay unique as the history grows; `--exclude` keeps a tag from taking the place of the commit.
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    # Asked anew each time: a run may take days, and whoever changes the code meanwhile must find it in the manifest.
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
