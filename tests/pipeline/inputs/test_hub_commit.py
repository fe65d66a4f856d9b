"""Names that are paths. What the hub itself answers is tested beside the reading of its rows, in corpus/test_hub.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.inputs.hub_commit import COMMIT, first_line, refuse_local_folder


@pytest.mark.parametrize("name", ["texts", "./texts", "me/mine"])
def test_a_path_is_no_dataset(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir(parents=True)
    with pytest.raises(ConfigError, match=f"Source s: hub '{name}' is a folder here. Write path: \"{name}/\\*\""):
        refuse_local_folder(name, tmp_path, "Source s")


def test_a_folder_where_the_program_started_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "me" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="hub 'me/mine' is a folder here"):
        refuse_local_folder("me/mine", Path("/elsewhere"), "Source s")


def test_a_file_is_called_a_file_and_moving_it_away_helps(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(ConfigError, match=r"hub 'a\.txt' is a file here\. Write path: \"a\.txt\""):
        refuse_local_folder("a.txt", tmp_path, "Source s")
    (tmp_path / "a.txt").unlink()
    refuse_local_folder("a.txt", tmp_path, "Source s")


@pytest.mark.parametrize("name", ["/data/gone", "~/gone", "a/b/c", "https://huggingface.co/datasets/me/mine"])
def test_what_no_dataset_is_called_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not the name of a dataset\. Write OWNER/NAME"):
        refuse_local_folder(name, tmp_path, "Source s")


def test_names_of_datasets_pass(tmp_path: Path) -> None:
    for name in ("squad", "HuggingFaceFW/fineweb-edu", "me/a_b.c-d"):
        refuse_local_folder(name, tmp_path, "Source s")


def test_a_commit_is_forty_digits() -> None:
    assert COMMIT.fullmatch("c0ffee" * 6 + "beef")
    assert not COMMIT.fullmatch("main") and not COMMIT.fullmatch("c0ffee")


def test_the_first_line_of_an_error_has_no_full_stop() -> None:
    assert [first_line(error) for error in (OSError("one.\ntwo"), ValueError())] == ["one", "ValueError"]
