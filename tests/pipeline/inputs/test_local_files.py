from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ConfigError, DataError, EnvironmentFault
from pipeline.inputs.file_memory import with_digests
from pipeline.inputs.local_files import (
    LocalFile,
    Unreadable,
    is_record_file,
    is_supported,
    local_files,
    refuse_changed,
    refuse_unsupported,
    refuse_unsupported_address,
)


def written(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"the text of {name}")
    return folder


def names_of(text: str, folder: Path) -> list[str]:
    return [file.name for file in local_files(text, folder).files]


def test_names_are_relative_to_what_the_files_have_in_common(tmp_path: Path) -> None:
    written(tmp_path, "one/a.txt", "one/deep/b.txt", "two/a.txt")
    assert names_of("one/*.txt", tmp_path) == ["a.txt"]
    assert names_of("one/**/*.txt", tmp_path) == ["a.txt", "deep/b.txt"]
    assert names_of("**/*.txt", tmp_path) == ["one/a.txt", "one/deep/b.txt", "two/a.txt"]
    assert names_of("one/a.txt", tmp_path) == ["a.txt"]


def test_files_say_their_size_without_being_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.open", None)
    monkeypatch.setattr(Path, "open", None)
    os.close(os.open(tmp_path / "a.txt", os.O_CREAT))
    (file,) = local_files("*.txt", tmp_path).files
    assert (file.bytes, file.sha256) == (0, "")


@pytest.mark.parametrize("name", ["notes [old].txt", "what?.txt", "a*b.txt"])
def test_a_path_that_exists_is_no_pattern(name: str, tmp_path: Path) -> None:
    written(tmp_path, name, "notes o.txt", "whatx.txt", "axb.txt")
    assert names_of(name, tmp_path) == [name]


def test_a_folder_with_brackets_is_that_folder(tmp_path: Path) -> None:
    written(tmp_path, "texts [1]/a.txt", "texts 1/b.txt")
    assert names_of("texts [1]/*.txt", tmp_path) == ["a.txt"]
    assert names_of("texts ?/*.txt", tmp_path) == ["b.txt"]


@pytest.mark.parametrize("pattern", ["**/*.txt", "*/*.txt", "closed/*.txt", "**"])
def test_a_folder_that_cannot_be_listed_is_named_and_not_passed_over(
    pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("open/a.txt", "closed/in/b.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    scandir = os.scandir

    def refusing(path: str) -> Any:  # as the kernel does, but to root it never does
        if Path(path) == tmp_path / "closed":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    assert [file.name for file in local_files("open/*.txt", tmp_path).files] == ["a.txt"]
    monkeypatch.setattr(os, "scandir", refusing)
    assert [file.name for file in local_files("open/*.txt", tmp_path).files] == ["a.txt"], "it looks into another"
    with pytest.raises(EnvironmentFault) as refused:
        local_files(pattern, tmp_path, "Source x")
    assert str(refused.value).startswith(f"Source x: the folder {tmp_path}/closed cannot be listed: Permission denied.")


def test_dangling_links_and_pipes_are_told_from_files_and_folders(tmp_path: Path) -> None:
    written(tmp_path, "a.txt", "folder.txt/b.txt")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nothing")
    (tmp_path / "round.txt").symlink_to(tmp_path / "round.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    found = local_files("*.txt", tmp_path)
    assert [file.name for file in found.files] == ["a.txt"]
    assert found.unreadable == (
        Unreadable("gone.txt", "dangling_link"),
        Unreadable("pipe.txt", "no_regular_file"),
        Unreadable("round.txt", "dangling_link"),
    )


def test_a_name_that_is_no_text_is_escaped(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).touch()
    assert names_of("*.txt", tmp_path) == ["caf\\udce9.txt"]


@pytest.mark.parametrize(
    ("name", "holds_records"), [("a.txt", False), ("a.jsonl.zst", True), ("a.parquet", True), ("a.md", False)]
)
def test_files_of_records_are_told_by_their_names(name: str, holds_records: bool) -> None:
    assert is_record_file(name) is holds_records


def test_files_of_another_kind_are_refused_with_the_patterns_that_leave_them_out(tmp_path: Path) -> None:
    written(tmp_path, "in/a.txt", "in/b.jsonl.zst", "in/MANIFEST.tsv", "in/c.pdf")
    with pytest.raises(ConfigError) as refusal:
        refuse_unsupported(local_files("in/*", tmp_path).files, "in/*", "Source s")
    assert refusal.value.message.startswith("Source s: MANIFEST.tsv, c.pdf does not end in one of .jsonl, ")
    assert refusal.value.remedy == 'Write "in/*.jsonl.zst" and "in/*.txt", a source each.'
    for pattern in ("in/*.jsonl.zst", "in/*.txt"):
        files = local_files(pattern, tmp_path).files
        assert len(files) == 1
        refuse_unsupported(files, pattern, "Source s")


def test_files_of_another_kind_alone_are_refused_too(tmp_path: Path) -> None:
    written(tmp_path, "a.pdf")
    with pytest.raises(ConfigError, match="Convert what you need"):
        refuse_unsupported(local_files("*.pdf", tmp_path).files, "*.pdf", "Source s")


def test_an_address_of_another_kind_is_refused_by_its_file() -> None:
    refuse_unsupported_address("https://example.org/a.jsonl.zst?x=/b.pdf", "Source s")
    with pytest.raises(ConfigError, match=r"the file 'a\.pdf' does not end in one of"):
        refuse_unsupported_address("https://example.org/a.pdf?token=x.jsonl", "Source s")


@pytest.mark.parametrize(
    ("name", "supported"),
    [("a.jsonl", True), ("a.jsonl.zst", True), ("a.txt.gz", True), ("a.parquet", True), ("a.tsv", False), ("a", False)],
)
def test_supported_names(name: str, supported: bool) -> None:
    assert is_supported(name) is supported


def hashed(folder: Path) -> LocalFile:
    return with_digests(local_files("a.txt", folder).files)[0]


def test_a_file_that_holds_something_else_is_noticed(tmp_path: Path) -> None:
    file = hashed(written(tmp_path, "a.txt"))
    refuse_changed(file)
    (tmp_path / "a.txt").write_text("the TEXT of a.txt")
    with pytest.raises(DataError, match=r"a\.txt changed while it was read\. Run again"):
        refuse_changed(file)
    refuse_changed(hashed(tmp_path))
    (tmp_path / "a.txt").unlink()
    with pytest.raises(DataError, match="changed while it was read"):
        refuse_changed(file)


def test_a_touched_or_copied_file_is_the_same_text(tmp_path: Path) -> None:
    file = hashed(written(tmp_path, "a.txt"))
    os.utime(tmp_path / "a.txt", (time.time() + 5, time.time() + 5))
    refuse_changed(file)
    (tmp_path / "copy.txt").write_bytes((tmp_path / "a.txt").read_bytes())
    (tmp_path / "copy.txt").replace(tmp_path / "a.txt")
    refuse_changed(file)
