from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.inputs import file_memory
from pipeline.inputs.file_memory import cache_folder, remember_answer, remembered_answer, with_digests
from pipeline.inputs.local_files import local_files


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read, in order of their names; none of them is too new to be remembered."""
    names: list[str] = []
    real = file_memory.sha256_of

    def noted(path: Path) -> str:
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(file_memory, "sha256_of", noted)
    monkeypatch.setattr(file_memory, "RESTING_NS", 0)
    return names


def digests(folder: Path) -> dict[str, str]:
    return {file.name: file.sha256 for file in with_digests(local_files("*.txt", folder).files)}


def test_a_second_look_reads_nothing(tmp_path: Path, reads: list[str]) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    first = digests(tmp_path)
    assert first == {name: hashlib.sha256(name.encode()).hexdigest() for name in ("a.txt", "b.txt")}
    assert sorted(reads) == ["a.txt", "b.txt"]
    assert digests(tmp_path) == first
    assert len(reads) == 2


def test_only_what_changed_is_read_again(tmp_path: Path, reads: list[str]) -> None:
    for name in ("a.txt", "b.txt", "c.txt"):
        (tmp_path / name).write_text(name)
    first = digests(tmp_path)
    reads.clear()
    (tmp_path / "b.txt").write_text("b.TXT")  # as long as before
    os.utime(tmp_path / "c.txt", (1, 1))
    second = digests(tmp_path)
    assert sorted(reads) == ["b.txt", "c.txt"]
    assert {name for name in first if first[name] != second[name]} == {"b.txt"}


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path: Path, reads: list[str]) -> None:
    (tmp_path / "a.txt").write_text("one")
    os.utime(tmp_path / "a.txt", (1, 1))
    first = digests(tmp_path)
    (tmp_path / "a.txt").write_text("two")
    os.utime(tmp_path / "a.txt", (1, 1))
    assert digests(tmp_path) != first


def test_a_file_that_was_written_just_now_is_not_remembered(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be written again within the same tick of its file system's clock, and would look the same."""
    monkeypatch.setattr(file_memory, "RESTING_NS", 2_000_000_000)
    (tmp_path / "a.txt").write_text("text")
    digests(tmp_path)
    digests(tmp_path)
    assert reads == ["a.txt", "a.txt"]


def test_more_files_than_fit_one_query_are_remembered(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_memory, "ASKED_AT_ONCE", 4)
    for number in range(11):
        (tmp_path / f"{number}.txt").write_text(str(number))
    assert digests(tmp_path) == digests(tmp_path)
    assert len(reads) == 11


@pytest.mark.parametrize("obstacle", ["no home", "a file in its place", "no database"])
def test_without_a_usable_cache_nothing_is_remembered_and_nothing_fails(
    obstacle: str, cache: Path, tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("text")
    if obstacle == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)
        assert cache_folder() is None
    elif obstacle == "a file in its place":
        (cache / "folio").write_text("")
    else:
        (cache / "folio" / file_memory.DATABASE).mkdir(parents=True)
    assert digests(tmp_path) == digests(tmp_path)
    remember_answer("address", {"etag": "1"})
    assert remembered_answer("address") is None
    assert reads == ["a.txt", "a.txt"]


def test_a_damaged_memory_is_begun_anew(cache: Path, tmp_path: Path, reads: list[str]) -> None:
    (tmp_path / "a.txt").write_text("text")
    digests(tmp_path)
    (cache / "folio" / file_memory.DATABASE).write_bytes(b"no database at all, whatever its name says" * 100)
    digests(tmp_path)
    digests(tmp_path)
    assert reads == ["a.txt", "a.txt"]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("text")

    def refused(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(file_memory, "sha256_of", refused)
    with pytest.raises(ConfigError, match=r"/a\.txt cannot be read: Permission denied\. Make it readable"):
        digests(tmp_path)


def test_an_answer_is_kept_with_its_date() -> None:
    assert remembered_answer("address") is None
    remember_answer("address", {"etag": "1"})
    remember_answer("address", {"etag": "2"})
    kept = remembered_answer("address")
    assert kept is not None
    assert kept.answer == {"etag": "2"}
    assert kept.seen.startswith(time.strftime("%Y-%m-%d", time.gmtime()))
