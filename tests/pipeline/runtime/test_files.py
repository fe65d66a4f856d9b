"""Files are complete or absent, and what the machine refuses is one line."""

from __future__ import annotations

import errno
import io
import os
import re
from pathlib import Path

import pytest

from pipeline.errors import EnvironmentFault
from pipeline.runtime import files
from pipeline.runtime.files import (
    environment_faults,
    existing_parent,
    replacing,
    sha256_of,
    write_bytes,
    write_text,
)

# Of the three bytes "abc", as FIPS 180 gives it.
SHA256_OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every path that was synced."""
    paths: list[Path] = []
    monkeypatch.setattr(files, "sync", paths.append)
    return paths


def test_file_keeps_its_old_content_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with replacing(path) as draft:
        draft.write_text("half of the n")
        assert path.read_text() == "old"
        draft.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_error_leaves_the_old_file_and_the_next_attempt_overwrites_the_draft(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as draft:
        draft.write_text("a long half of the new content")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_durable_file_is_synced_before_its_folder(tmp_path: Path, synced: list[Path]) -> None:
    with replacing(tmp_path / "file") as draft:
        draft.touch()
    assert synced == [draft, tmp_path]


def test_file_that_need_not_last_is_not_synced(tmp_path: Path, synced: list[Path]) -> None:
    with replacing(tmp_path / "file", durable=False) as draft:
        draft.touch()
    assert synced == []
    assert (tmp_path / "file").exists()


def test_text_is_written_as_utf_8_and_bytes_as_they_are(tmp_path: Path) -> None:
    write_text(tmp_path / "text", "é\n")
    write_bytes(tmp_path / "bytes", b"\xff\x00")
    assert (tmp_path / "text").read_bytes() == b"\xc3\xa9\n"
    assert (tmp_path / "bytes").read_bytes() == b"\xff\x00"


def test_sha256_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256_of(tmp_path / "file") == SHA256_OF_ABC


def test_digest_without_pythons_own_reads_in_pieces_to_the_same_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "READ_BYTES", 2)
    assert files._digest(io.BytesIO(b"abc")) == SHA256_OF_ABC


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_names_the_file_and_what_is_free(tmp_path: Path, number: int) -> None:
    path = tmp_path / "not" / "there yet"
    with pytest.raises(EnvironmentFault) as refused, environment_faults(path):
        raise OSError(number, os.strerror(number))
    assert re.fullmatch(rf"No space left for {path} \([\d.]+ .?B free\)\. Make room, run again\.", str(refused.value))


def test_refused_access_names_the_file_of_the_error_and_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault) as refused, environment_faults(tmp_path, remedy="Give another folder."):
        (tmp_path / "file" / "below").mkdir()
    assert str(refused.value) == f"{tmp_path / 'file' / 'below'}: Not a directory. Give another folder."


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("mine/texts/a.txt", r"Let this user read and write it\."),
        ("cache/huggingface/hub/lock", r"Let this user read and write it, or set HF_HOME to a folder of your own\."),
        ("store", r"Give a writable FOLIO_STORE\."),
        ("store/target/x/train.txt", r"Give a writable FOLIO_STORE\."),
    ],
)
def test_refused_access_elsewhere_is_not_blamed_on_the_store(path: str, remedy: str, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault) as refused, environment_faults(tmp_path / "store" / "target"):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path / path))
    assert re.fullmatch(rf"{tmp_path / path}: Permission denied\. {remedy}", str(refused.value))


def test_other_errors_pass_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), environment_faults(tmp_path):
        (tmp_path / "absent").read_bytes()


def test_existing_parent_is_the_nearest_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert existing_parent(tmp_path) == tmp_path
    assert existing_parent(tmp_path / "a" / "b") == tmp_path
    monkeypatch.chdir(tmp_path)
    assert existing_parent(Path("a")) == tmp_path
