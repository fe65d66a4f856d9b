from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.text_sections import TargetSection
from pipeline.corpus.cleaning import cleaned
from pipeline.corpus.target_stage import cut
from pipeline.errors import ConfigError, DataError, EnvironmentFault
from pipeline.graph.stage_counts import TargetCounts
from pipeline.inputs import named_target

Run = Callable[[TargetSection], tuple[Path, TargetCounts]]
TEXT = "Line one.\r\nLine two \u2014 caf\u00e9.\n" * 100
NAMED = TargetSection(name="tiny-shakespeare")


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No data folder, an empty cache, no network; gives the cache's folder."""
    monkeypatch.delenv("FOLIO_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(named_target, "URL", "http://127.0.0.1:9/input.txt")
    return tmp_path / "folio"


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A short text in the place of Tiny Shakespeare."""
    data = TEXT.encode()
    monkeypatch.setattr(named_target, "SHA256", hashlib.sha256(data).hexdigest())
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


def test_files_hold_the_text_spelt_as_the_corpus_is(tmp_path: Path, run_target: Run) -> None:
    path = tmp_path / "my.txt"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    spelt = TEXT.replace("\r\n", "\n")
    folder, counts = run_target(TargetSection(path=str(path)))
    splits = [(folder / f"{split}.txt").read_bytes() for split in ("train", "selection", "validation")]
    assert b"".join(splits) == spelt.encode()
    assert cleaned(TEXT) == spelt.strip().encode()
    assert (counts.name, counts.origin, counts.characters) == ("my.txt", "path", len(spelt))
    assert [counts.train_bytes, counts.selection_bytes, counts.validation_bytes] == list(map(len, splits))
    texts = [split.decode() for split in splits]
    characters = [counts.train_characters, counts.selection_characters, counts.validation_characters]
    assert characters == list(map(len, texts))
    assert (counts.bytes, counts.sha256) == (len(spelt.encode()), hashlib.sha256(path.read_bytes()).hexdigest())


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
    monkeypatch.setattr(named_target, "URL", f"{site.address}/input.txt")
    assert [run_target(NAMED)[1].origin for _ in range(2)] == ["network", "cache"]
    assert len(site.requests) == 1


def test_another_text_is_refused_with_both_hashes(nowhere: Path, run_target: Run) -> None:
    path = place(nowhere, b"tampered")
    digest = hashlib.sha256(b"tampered").hexdigest()
    with pytest.raises(DataError, match=f"{path} has sha256 {digest}, Tiny Shakespeare has {named_target.SHA256}"):
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
        (b"x" * 2_000 + b"\xff", r"not UTF-8: byte 2,000 is 0xff; reads as cp1252\. Set target\.encoding: cp1252, or"),
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
    with pytest.raises(ConfigError, match=r"there is no file '.*/gone\.txt'"):
        run_target(TargetSection(path=str(tmp_path / "gone.txt")))


def test_remedy_of_another_encoding_works(tmp_path: Path, run_target: Run) -> None:
    path = tmp_path / "my.txt"
    path.write_bytes(TEXT.encode("cp1252"))
    with pytest.raises(DataError) as refusal:
        run_target(TargetSection(path=str(path)))
    encoding = refusal.value.remedy.removeprefix("Set target.encoding: ").partition(",")[0]
    folder, _ = run_target(TargetSection(path=str(path), encoding=encoding))
    assert (folder / "train.txt").read_text().startswith("Line one.\nLine two \u2014 caf\u00e9.\n")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_target_with_a_byte_order_mark_is_read_by_it(tmp_path: Path, run_target: Run, encoding: str) -> None:
    (tmp_path / "my.txt").write_bytes(TEXT.encode(encoding))
    folder, _ = run_target(TargetSection(path=str(tmp_path / "my.txt")))
    assert (folder / "train.txt").read_text().startswith("Line one.\nLine two \u2014 caf\u00e9.\n")


@pytest.mark.data
def test_target_that_was_saved_on_windows_has_no_trace_of_it(data: Path, run_target: Run) -> None:
    folder, _ = run_target(TargetSection(path=str(data / "odd" / "target-bom-crlf.txt")))
    text = b"".join((folder / f"{split}.txt").read_bytes() for split in ("train", "selection", "validation"))
    assert not text.startswith(b"\xef\xbb\xbf")
    assert b"\r" not in text
    assert len(text) == 40_000


@pytest.mark.data
def test_tiny_shakespeare_keeps_its_bytes(data: Path, run_target: Run) -> None:
    folder, counts = run_target(NAMED)
    text = b"".join((folder / f"{split}.txt").read_bytes() for split in ("train", "selection", "validation"))
    assert hashlib.sha256(text).hexdigest() == named_target.SHA256 == counts.sha256
    assert (counts.train_characters + counts.selection_characters, counts.bytes) == (1_003_854, 1_115_394)
