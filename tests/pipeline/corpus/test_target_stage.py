from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.text_sections import TargetSection
from pipeline.corpus import target_stage
from pipeline.corpus.target_stage import cut
from pipeline.errors import ConfigError, DataError, EnvironmentFault
from pipeline.graph.stage_counts import TargetCounts

Run = Callable[[TargetSection], tuple[Path, TargetCounts]]
TEXT = "Line one.\r\nLine two \u2014 caf\u00e9.\n" * 100
NAMED = TargetSection(name="tiny-shakespeare")


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No data folder, an empty cache, no network; gives the cache's folder."""
    monkeypatch.delenv("FOLIO_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(target_stage, "URL", "http://127.0.0.1:9/input.txt")
    return tmp_path / "folio"


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A short text in the place of Tiny Shakespeare."""
    data = TEXT.encode()
    monkeypatch.setattr(target_stage, "SHA256", hashlib.sha256(data).hexdigest())
    return data


def place(folder: Path, data: bytes) -> Path:
    path = folder / "tinyshakespeare" / "input.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return path


def test_cuts_are_consecutive_and_by_characters() -> None:
    assert cut("abcdefghi\u00e9", selection=0.2, validation=0.3) == {
        "train": "abcde",
        "selection": "fg",
        "validation": "hi\u00e9",
    }


def test_tiny_shakespeare_is_cut_where_the_lecture_cuts_it() -> None:
    lengths = {split: len(text) for split, text in cut("x" * 1_115_394, selection=0.05, validation=0.1).items()}
    assert lengths == {"train": 948_085, "selection": 55_769, "validation": 111_540}


def test_files_hold_the_text_untouched(tmp_path: Path, run_target: Run) -> None:
    path = tmp_path / "my.txt"
    path.write_bytes(TEXT.encode())
    folder, counts = run_target(TargetSection(path=str(path)))
    splits = [(folder / f"{split}.txt").read_bytes() for split in ("train", "selection", "validation")]
    assert b"".join(splits) == TEXT.encode()
    assert (counts.name, counts.origin, counts.characters) == ("my.txt", "path", len(TEXT))
    assert [counts.train_bytes, counts.selection_bytes, counts.validation_bytes] == list(map(len, splits))
    texts = [split.decode() for split in splits]
    characters = [counts.train_characters, counts.selection_characters, counts.validation_characters]
    assert characters == list(map(len, texts))
    assert (counts.bytes, counts.sha256) == (len(TEXT.encode()), hashlib.sha256(TEXT.encode()).hexdigest())


def test_data_folder_comes_before_the_cache(
    nowhere: Path, pinned: bytes, run_target: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(nowhere, pinned)
    assert run_target(NAMED)[1].origin == "cache"
    place(tmp_path / "data", pinned)
    monkeypatch.setenv("FOLIO_DATA", str(tmp_path / "data"))
    assert run_target(NAMED)[1].origin == "FOLIO_DATA"


def test_network_fills_the_cache(
    nowhere: Path, pinned: bytes, run_target: Run, site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.files["/input.txt"] = pinned
    monkeypatch.setattr(target_stage, "URL", f"{site.address}/input.txt")
    assert [run_target(NAMED)[1].origin for _ in range(2)] == ["network", "cache"]
    assert len(site.requests) == 1


def test_another_text_is_refused_with_both_hashes(nowhere: Path, run_target: Run) -> None:
    path = place(nowhere, b"tampered")
    digest = hashlib.sha256(b"tampered").hexdigest()
    with pytest.raises(DataError, match=f"{path} has sha256 {digest}, Tiny Shakespeare has {target_stage.SHA256}"):
        run_target(NAMED)


def test_nothing_answers_is_a_refusal_with_the_ways_out(nowhere: Path, run_target: Run) -> None:
    with pytest.raises(EnvironmentFault, match=r"not in FOLIO_DATA.*Set FOLIO_DATA .* target\.path, or connect"):
        run_target(NAMED)


def test_fallback_is_loud_and_recorded(nowhere: Path, run_target: Run, capsys: pytest.CaptureFixture[str]) -> None:
    _, counts = run_target(TargetSection(name="tiny-shakespeare", fallback=True))
    assert (counts.name, counts.origin) == ("python-language-reference", "installed text")
    assert "TARGET NOT FOUND" in capsys.readouterr().err


def test_damage_is_refused_in_spite_of_a_fallback(nowhere: Path, run_target: Run) -> None:
    place(nowhere, b"tampered")
    with pytest.raises(DataError):
        run_target(TargetSection(name="tiny-shakespeare", fallback=True))


@pytest.mark.parametrize(
    ("data", "refusal"),
    [
        (b"", r"has 0 characters, cut into train 0, selection 0, validation 0\. Give at least 1,000"),
        (b"short", r"has 5 characters"),
        (b"x" * 2_000 + b"\xff", r"not UTF-8: byte 2,000 is 0xff"),
    ],
)
def test_unusable_text_is_refused_with_numbers(data: bytes, refusal: str, tmp_path: Path, run_target: Run) -> None:
    path = tmp_path / "my.txt"
    path.write_bytes(data)
    with pytest.raises(DataError, match=refusal):
        run_target(TargetSection(path=str(path)))


def test_empty_split_is_refused(tmp_path: Path, run_target: Run) -> None:
    (tmp_path / "my.txt").write_text(TEXT)
    with pytest.raises(DataError, match="selection 0"):
        run_target(TargetSection(path=str(tmp_path / "my.txt"), selection=1e-6))


def test_missing_path_is_refused(tmp_path: Path, run_target: Run) -> None:
    with pytest.raises(ConfigError, match=r"gone.txt cannot be read: No such file"):
        run_target(TargetSection(path=str(tmp_path / "gone.txt")))
