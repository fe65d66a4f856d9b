"""A newcomer's own texts, through the program: README's few lines, files that change, and a machine without a home."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = """
target: {path: my.txt}
corpus: {validation: 20%, sources: [{path: "texts/*.txt"}]}
"""
# Stands in the way of finding a home by other means than HOME: as in a container whose user has no entry in passwd.
NO_PASSWD = """
import pwd
def unknown(number): raise KeyError(number)
pwd.getpwuid = unknown
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the config, a target and a corpus of twenty files."""
    folder = tmp_path / "project"
    (folder / "texts").mkdir(parents=True)
    (folder / "mine.yaml").write_text(CONFIG)
    (folder / "my.txt").write_text("A target that is long enough to be cut into three. " * 100)
    for number in range(20):
        (folder / "texts" / f"{number}.txt").write_text(f"Text number {number} has words of its own. " * 20)
    return folder


def folio(*arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "DS_ACCELERATOR": "cpu", "FOLIO_STORE": str(folder.parent / "store")}
    command = [str(Path(sys.executable).with_name("folio")), *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment | variables, capture_output=True, text=True, check=False, timeout=120
    )


def test_another_text_under_the_same_path_is_another_result(project: Path, tmp_path: Path) -> None:
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    first = folio("run", "mine.yaml", "--until", "corpus", folder=project, **cache)
    again = folio("run", "mine.yaml", "--until", "corpus", folder=project, **cache)
    assert (first.returncode, again.returncode) == (0, 0)
    assert (again.stdout, again.stderr) == (first.stdout, "")
    # From elsewhere, and moved: the same texts.
    project = project.rename(tmp_path / "moved")
    moved = folio(
        "run", str(project / "mine.yaml"), "--until", "corpus", folder=tmp_path, FOLIO_STORE=f"{tmp_path}/store"
    )
    assert (moved.stdout, moved.stderr) == (first.stdout, "")
    (project / "texts" / "20.txt").write_text("One more text has words of its own. " * 20)
    planned = folio("plan", "mine.yaml", folder=project, **cache).stdout
    assert "because 1 file of texts/*.txt was added (20.txt)" in planned
    assert folio("status", "mine.yaml", folder=project, **cache).stdout.splitlines()[1].split()[:2] == [
        "corpus",
        "waiting",
    ]
    third = folio("run", "mine.yaml", "--until", "corpus", folder=project, **cache)
    assert third.stdout not in ("", first.stdout)


def test_without_a_home_everything_works_and_nothing_is_left_beside_the_artifacts(
    project: Path, tmp_path: Path
) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "sitecustomize.py").write_text(NO_PASSWD)
    before = sorted(project.iterdir())
    for arguments in (["plan", "mine.yaml"], ["run", "mine.yaml", "--until", "corpus"]):
        done = folio(*arguments, folder=project, PYTHONPATH=str(tmp_path / "without"))
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert sorted(project.iterdir()) == before


def test_a_text_that_is_gone_is_said_by_each_command_in_one_line(project: Path) -> None:
    folio("run", "mine.yaml", "--until", "target", folder=project)
    (project / "my.txt").rename(project / "mine.txt")
    for command in ("run", "verify"):
        refused = folio(command, "mine.yaml", folder=project)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert "there is no file" in refused.stderr and "mine.txt" in refused.stderr
    status = folio("status", "mine.yaml", folder=project)
    assert (status.returncode, "there is no file" in status.stderr) == (0, True)
    assert folio("verify", "mine.yaml", "--set", "target.path=mine.txt", folder=project).returncode == 0
