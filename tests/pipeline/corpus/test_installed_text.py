from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from pipeline.corpus import installed_text
from pipeline.corpus.installed_text import docstrings, language_reference
from pipeline.execution.worker_pool import InProcess

LONG = "Says much about little." * 20
SOURCE = f'''
"""{LONG}"""
data = """{LONG} this is not a docstring """
class Documented:
    """{LONG} class"""
    def method(self):
        """Short."""
    async def other(self):
        """{LONG} method"""
'''


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    (tmp_path / "documented.py").write_text(dedent(SOURCE))
    (tmp_path / "broken.py").write_text(f'"""{LONG}"""\ndef (')
    (tmp_path / "sparse.py").write_text(f'"""{LONG}"""\n' + "x = 1\n" * 1_000)
    (tmp_path / "pydoc_data").mkdir()
    (tmp_path / "pydoc_data" / "topics.py").write_text(f'"""{LONG}"""')
    return tmp_path


def test_long_docstrings_are_documents(packages: Path) -> None:
    records = list(docstrings(InProcess()))
    assert [(record.id, record.payload) for record in records] == [
        ("documented.py:1", LONG),
        ("documented.py:4", f"{LONG} class"),
        ("documented.py:8", f"{LONG} method"),
    ]


def test_reading_stops_at_the_limit(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        (packages / f"more{number}.py").write_text(f'"""{LONG}{number}"""')
    monkeypatch.setattr(installed_text, "MAX_CHARACTERS", 5_000)
    few = [record.payload for record in docstrings(InProcess())]
    assert 5_000 <= sum(map(len, few)) < 6_500
    assert few == [record.payload for record in docstrings(InProcess())]


def test_language_reference_is_long_enough_for_a_demonstration() -> None:
    assert len(language_reference()) > 300_000
