from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from pipeline.inputs.stand_ins import docstrings_identity, language_reference_identity


def test_the_language_reference_is_that_of_this_python() -> None:
    assert list(language_reference_identity()) == ["python"]


def test_another_package_makes_other_docstrings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    (tmp_path / "torch-2.0.dist-info").mkdir()
    before = docstrings_identity()
    assert docstrings_identity() == before
    (tmp_path / "torch-2.0.dist-info").rename(tmp_path / "torch-2.1.dist-info")
    assert docstrings_identity() != before
