from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.text_sections import TargetSection
from pipeline.corpus.cleaning import cleaned
from pipeline.corpus.target_splits import TARGET_SPLITS, read_splits, target_text
from pipeline.errors import ConfigError, DataError, EnvironmentFault
from pipeline.graph.stage_counts import TargetCounts
from pipeline.inputs import named_target

Run = Callable[[TargetSection], tuple[Path, TargetCounts]]
TEXT = "Line one.\r\nLine two \u2014 caf\u00e9.\n" * 200
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


def test_files_hold_the_text_spelt_as_the_corpus_is(tmp_path: Path, run_target: Run) -> None:
    path = tmp_path / "my.txt"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    spelt = TEXT.replace("\r\n", "\n")
    folder, counts = run_target(TargetSection(path=str(path)))
    assert (folder / "refit.txt").read_bytes() + (folder / "validation.txt").read_bytes() == spelt.encode()
    assert cleaned(TEXT) == spelt.strip().encode()
    assert (counts.name, counts.origin, counts.characters, counts.documents) == ("my.txt", "path", len(spelt), 1)
    for split in TARGET_SPLITS:
        text = target_text(folder, split)
        assert getattr(counts, f"{split}_characters") == len(text)
        assert getattr(counts, f"{split}_bytes") == len(text.encode())
    assert counts.selection_stretches == read_splits(folder).selection
    assert (counts.bytes, counts.sha256) == (len(spelt.encode()), hashlib.sha256(path.read_bytes()).hexdigest())


def test_the_three_parts_are_found_again_from_what_the_stage_counts(tmp_path: Path, run_target: Run) -> None:
    (tmp_path / "my.txt").write_text(TEXT)
    folder, counts = run_target(TargetSection(path=str(tmp_path / "my.txt")))
    text = (folder / "refit.txt").read_text() + (folder / "validation.txt").read_text()
    cut = counts.characters - counts.validation_characters
    chooses = "".join(text[start:end] for start, end in counts.selection_stretches)
    edges = [0, *(at for stretch in counts.selection_stretches for at in stretch), cut]
    trains = "".join(text[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True))
    assert (trains, chooses) == (target_text(folder, "train"), target_text(folder, "selection"))
    assert (text[:cut], text[cut:]) == (target_text(folder, "refit"), target_text(folder, "validation"))


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
        (b"", r"has 0 characters: too few to choose .* on 5% of them\. Give at least 1,000 characters\.$"),
        (b"x" * 250, r"250 characters: .*Give at least 1,000 characters, or set target\.selection: 20%\."),
        (b"x" * 2_000 + b"\xff", r"not UTF-8: byte 2,000 is 0xff; reads as cp1252\. Set target\.encoding: cp1252, or"),
    ],
)
def test_unusable_text_is_refused_with_numbers(data: bytes, refusal: str, tmp_path: Path, run_target: Run) -> None:
    path = tmp_path / "my.txt"
    path.write_bytes(data)
    with pytest.raises(DataError, match=refusal):
        run_target(TargetSection(path=str(path)))


def test_remedies_of_a_short_text_work(tmp_path: Path, run_target: Run) -> None:
    (tmp_path / "my.txt").write_text(TEXT[:260])
    _, counts = run_target(TargetSection(path=str(tmp_path / "my.txt"), selection=0.2))
    assert counts.selection_characters >= 30
    (tmp_path / "my.txt").write_text(TEXT[:1100])
    run_target(TargetSection(path=str(tmp_path / "my.txt")))


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
    assert (folder / "refit.txt").read_text().startswith("Line one.\nLine two \u2014 caf\u00e9.\n")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_target_with_a_byte_order_mark_is_read_by_it(tmp_path: Path, run_target: Run, encoding: str) -> None:
    (tmp_path / "my.txt").write_bytes(TEXT.encode(encoding))
    folder, _ = run_target(TargetSection(path=str(tmp_path / "my.txt")))
    assert (folder / "refit.txt").read_text().startswith("Line one.\nLine two \u2014 caf\u00e9.\n")


@pytest.mark.data
def test_target_that_was_saved_on_windows_has_no_trace_of_it(data: Path, run_target: Run) -> None:
    folder, _ = run_target(TargetSection(path=str(data / "odd" / "target-bom-crlf.txt")))
    text = b"".join((folder / f"{split}.txt").read_bytes() for split in ("refit", "validation"))
    assert not text.startswith(b"\xef\xbb\xbf")
    assert b"\r" not in text
    assert len(text) == 40_000


@pytest.mark.data
def test_tiny_shakespeare_keeps_its_bytes(data: Path, run_target: Run) -> None:
    folder, counts = run_target(NAMED)
    text = b"".join((folder / f"{split}.txt").read_bytes() for split in ("refit", "validation"))
    assert hashlib.sha256(text).hexdigest() == named_target.SHA256 == counts.sha256
    assert (counts.train_characters + counts.selection_characters, counts.bytes) == (1_003_854, 1_115_394)
