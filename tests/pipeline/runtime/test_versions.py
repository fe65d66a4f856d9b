"""Which code made a result."""

from __future__ import annotations

import platform
import re
import subprocess
from pathlib import Path

import pytest
import torch

from pipeline.runtime import versions
from pipeline.runtime.versions import PACKAGES, git_commit, installed_versions


def test_versions_are_those_that_run() -> None:
    installed = installed_versions()
    assert installed["python"] == platform.python_version()
    assert installed["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert list(installed) == ["python", *PACKAGES]


def test_package_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "PACKAGES", ("torch", "no-such-package"))
    assert list(installed_versions()) == ["python", "torch"]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git checkout with one commit, a tag on it, and the module in it."""
    (tmp_path / "versions.py").write_text("")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "First"], ["tag", "v1"]):
        subprocess.run(["git", "-C", tmp_path, *arguments], check=True)
    monkeypatch.setattr(versions, "__file__", str(tmp_path / "versions.py"))
    return tmp_path


def test_commit_has_twelve_digits_even_under_a_tag(checkout: Path) -> None:
    head = subprocess.run(
        ["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout
    assert git_commit() == head[:12]
    assert re.fullmatch(r"[0-9a-f]{12}", git_commit())


def test_local_changes_mark_the_commit(checkout: Path) -> None:
    (checkout / "versions.py").write_text("changed")
    assert git_commit().endswith("-dirty")


def test_outside_a_checkout_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "__file__", str(tmp_path / "versions.py"))
    assert git_commit() == "unknown"
