from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.inputs.data_paths import filled_in, located


def test_a_relative_path_starts_at_the_folder_of_the_config(tmp_path: Path) -> None:
    assert located("texts/*.txt", tmp_path, "path") == f"{tmp_path}/texts/*.txt"
    assert located("/elsewhere/a.txt", tmp_path, "path") == "/elsewhere/a.txt"


def test_home_and_variables_are_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("WHERE", "/data")
    assert located("~/a.txt", tmp_path, "path") == "/home/me/a.txt"
    assert located("${WHERE}/a.txt", tmp_path, "path") == located("$WHERE/a.txt", tmp_path, "path") == "/data/a.txt"


def test_a_variable_with_a_relative_value_starts_at_the_current_folder_as_in_a_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHERE", "../data")
    assert located("${WHERE}/a.txt", tmp_path, "path") == "../data/a.txt"
    assert located("in/${WHERE}/a.txt", tmp_path, "path") == f"{tmp_path}/in/../data/a.txt"


@pytest.mark.parametrize("value", [None, ""])
@pytest.mark.parametrize("text", ["$WHERE/a.txt", "${WHERE}/a.txt"])
def test_an_unset_variable_is_named_and_setting_it_helps(
    text: str, value: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WHERE", raising=False)
    if value is not None:
        monkeypatch.setenv("WHERE", value)
    with pytest.raises(ConfigError, match=r"target.path '.*': the variable WHERE is not set\. Set WHERE, or"):
        located(text, tmp_path, "target.path")
    monkeypatch.setenv("WHERE", str(tmp_path))
    assert located(text, tmp_path, "target.path") == f"{tmp_path}/a.txt"


def test_an_unset_data_folder_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FOLIO_DATA", raising=False)
    with pytest.raises(ConfigError, match=r"FOLIO_DATA is not set\. Set FOLIO_DATA to the folder with your data"):
        filled_in("${FOLIO_DATA}/a.txt", "Source a")


def test_a_file_with_a_dollar_in_its_name_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "cost$in$dollars.txt").write_text("text")
    assert located("cost$in$dollars.txt", tmp_path, "path") == f"{tmp_path}/cost$in$dollars.txt"


def test_an_unknown_home_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no home folder for ~nobody-has-this-name"):
        located("~nobody-has-this-name/a.txt", tmp_path, "path")
