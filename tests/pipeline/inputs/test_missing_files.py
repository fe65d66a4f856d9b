"""What a path that leads nowhere is answered: the cause, and a remedy that is applied here and works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.inputs.local_files import local_files


def refusal_of(text: str, folder: Path, where: str = "Source s") -> ConfigError:
    with pytest.raises(ConfigError) as refusal:
        local_files(text, folder, where)
    return refusal.value


def proposed(refusal: ConfigError) -> str:
    return re.findall(r'"(.*?)"', refusal.remedy)[0]


def written(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("text")
    return folder


@pytest.mark.parametrize(
    ("names", "content", "pattern"),
    [
        (("texts/a.txt", "texts/b.txt", "texts/c.pdf"), "2 .txt, 1 .pdf", "texts/*.txt"),
        (("texts/a.pdf", "texts/b.pdf", "texts/c.jsonl.zst"), "2 .pdf, 1 .jsonl.zst", "texts/*.jsonl.zst"),
        (("texts/one/a.txt", "texts/two/b.txt"), "2 .txt in its subfolders", "texts/**/*.txt"),
    ],
)
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_folder_is_answered_with_the_pattern_of_its_files(
    names: tuple[str, ...], content: str, pattern: str, slash: str, tmp_path: Path
) -> None:
    refusal = refusal_of(f"texts{slash}", written(tmp_path, *names))
    assert f"texts{slash} is a folder ({content})" in refusal.message
    assert proposed(refusal) == pattern
    assert len(local_files(pattern, tmp_path).files) == (2 if pattern.endswith("*.txt") else 1)


def test_a_folder_whose_name_has_brackets_gets_a_pattern_that_works(tmp_path: Path) -> None:
    written(tmp_path, "a [1]/x.txt")
    assert len(local_files(proposed(refusal_of("a [1]", tmp_path)), tmp_path).files) == 1


def test_an_empty_folder_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    assert "texts is a folder without files" in refusal_of("texts", tmp_path).message


def test_a_slip_is_answered_with_the_names_that_are_there(tmp_path: Path) -> None:
    written(tmp_path, "texts/mytext.txt", "texts/other.txt")
    refusal = refusal_of("texts/mytxt.txt", tmp_path)
    assert refusal.message == f"Source s: there is no file '{tmp_path}/texts/mytxt.txt'."
    assert refusal.remedy == f"Correct the path: {tmp_path}/texts has mytext.txt, ...."
    assert "has texts." in refusal_of("text/*.txt", tmp_path).remedy
    assert "no file matches" in refusal_of("text/*.txt", tmp_path).message


def test_a_path_that_starts_at_the_current_folder_is_answered_with_one_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, "here/texts/a.txt", "configs/run.yaml")
    monkeypatch.chdir(tmp_path / "here")
    refusal = refusal_of("texts/*.txt", tmp_path / "configs")
    assert refusal.remedy.startswith("Relative paths start at the folder of the config")
    path = re.findall(r"'(.*?)'", refusal.remedy)[0]
    assert len(local_files(path, tmp_path / "configs").files) == 1


def test_a_missing_data_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLIO_DATA", str(tmp_path / "gone"))
    assert re.match(r"FOLIO_DATA is .*/gone, and there is no such", refusal_of("${FOLIO_DATA}/*.txt", tmp_path).remedy)


@pytest.mark.parametrize("data", [None, "here", "gone"])
def test_a_mistyped_path_does_not_blame_the_data_folder(
    data: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FOLIO_DATA is unset, is a folder that exists, or is missing but has nothing to do with the path."""
    monkeypatch.delenv("FOLIO_DATA", raising=False)
    (tmp_path / "here").mkdir()
    if data:
        monkeypatch.setenv("FOLIO_DATA", str(tmp_path / data))
    assert "FOLIO_DATA" not in str(refusal_of(str(tmp_path / "here" / "mistyped*.jsonl"), tmp_path))


def test_a_dangling_link_says_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "a.txt").symlink_to("moved/a.txt")
    assert "a.txt is a link to moved/a.txt, which is not there." in refusal_of("a.txt", tmp_path).message


def test_a_dataset_of_the_hub_is_recognised(tmp_path: Path) -> None:
    assert "write hub: HuggingFaceFW/fineweb-edu" in refusal_of("HuggingFaceFW/fineweb-edu", tmp_path).remedy


@pytest.mark.parametrize(
    ("text", "where", "remedy"),
    [
        ("https://example.org/a.txt", "Source s", "Write url: instead of path:."),
        ("hf://datasets/me/mine", "Source s", "Write hub: and the dataset's name."),
        ("https://example.org/a.txt", "target.path", "Fetch the file and give its path: "),
    ],
)
def test_an_address_is_no_path(text: str, where: str, remedy: str, tmp_path: Path) -> None:
    assert refusal_of(text, tmp_path, where).remedy.startswith(remedy)
