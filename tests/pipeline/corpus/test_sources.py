from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from pipeline.config.text_sections import SourceSection
from pipeline.corpus import sources
from pipeline.corpus.records import Record
from pipeline.corpus.sources import in_turns, resolve, resolve_all
from pipeline.errors import ConfigError

Writer = Callable[[Path, list[str]], Path]


def texts_of(source: SourceSection, seed: int = 0) -> list[str]:
    return [json.loads(record.payload)["text"] for record in resolve(source, seed).records()]


def test_readers_take_turns_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "TURN_BYTES", 4)
    monkeypatch.setattr(sources, "OPEN_FILES", 2)

    def reader(name: str, *sizes: int) -> Iterator[Record]:
        return (Record(name, number, "json", b"x" * size) for number, size in enumerate(sizes))

    readers = [reader("a", 2, 2, 2), reader("b", 9, 1), reader("c", 4), reader("empty")]
    order = [(record.file, record.line) for record in in_turns(readers)]
    assert order == [("a", 0), ("a", 1), ("b", 0), ("a", 2), ("b", 1), ("c", 0)]


def test_every_record_of_every_file_comes_once(tmp_path: Path, write_lines: Writer) -> None:
    wanted = [f"text {number}" for number in range(60)]
    for start in range(0, 60, 3):
        write_lines(tmp_path / "data" / f"{start}.jsonl.zst", wanted[start : start + 3])
    source = resolve(SourceSection(name="s", path=str(tmp_path / "data" / "*.zst")), seed=0)
    assert Counter(json.loads(record.payload)["text"] for record in source.records()) == Counter(wanted)
    assert source.total_bytes == sum(path.stat().st_size for path in (tmp_path / "data").iterdir())


def test_order_depends_on_names_and_seed_not_on_the_folder(tmp_path: Path, write_lines: Writer) -> None:
    for folder, order in (("one", range(12)), ("two", reversed(range(12)))):
        for number in order:
            write_lines(tmp_path / folder / f"{number}.jsonl", [f"text {number}"])
    one, two = (SourceSection(name=folder, path=str(tmp_path / folder / "*.jsonl")) for folder in ("one", "two"))
    assert texts_of(one) == texts_of(two)
    assert texts_of(one) != texts_of(one, seed=1)


@pytest.mark.parametrize("variable", ["${FOLIO_DATA}", "$FOLIO_DATA"])
def test_missing_files_below_an_unset_folder_blame_the_variable(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FOLIO_DATA", raising=False)
    with pytest.raises(ConfigError) as refusal:
        resolve(SourceSection(name="s", path=f"{variable}/x*.jsonl"), 0)
    assert refusal.value.message == f"Source s: no file matches '{variable}/x*.jsonl'."
    assert refusal.value.remedy.startswith("FOLIO_DATA is not set: set it")


def test_missing_data_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLIO_DATA", str(tmp_path / "gone"))
    with pytest.raises(ConfigError, match=r"FOLIO_DATA is .*/gone, and there is no such folder"):
        resolve(SourceSection(name="s", path=str(tmp_path / "gone" / "x*.jsonl")), 0)


@pytest.mark.parametrize("data", [None, "here", "gone"])
def test_mistyped_path_does_not_blame_the_data_folder(
    data: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FOLIO_DATA is unset, is a folder that exists, or is missing but has nothing to do with the path."""
    monkeypatch.delenv("FOLIO_DATA", raising=False)
    (tmp_path / "here").mkdir()
    if data:
        monkeypatch.setenv("FOLIO_DATA", str(tmp_path / data))
    pattern = str(tmp_path / "here" / "mistyped*.jsonl")
    with pytest.raises(ConfigError) as refusal:
        resolve(SourceSection(name="s", path=pattern), 0)
    assert str(refusal.value) == f"Source s: no file matches {pattern!r}. Correct the path."


def test_no_source_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"corpus\.sources is empty"):
        resolve_all([], 0)


def test_unknown_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "MANIFEST.tsv").touch()
    with pytest.raises(ConfigError, match=r"MANIFEST\.tsv does not end in one of \.jsonl"):
        resolve(SourceSection(name="s", path=str(tmp_path / "*")), 0)


def test_file_on_the_web_gives_the_same_texts_through_faults(site: Any) -> None:
    wanted = [f"text {number} " * 2_000 for number in range(50)]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in wanted).encode()
    site.files["/a.jsonl.zst"] = zstandard.ZstdCompressor().compress(lines)
    source = SourceSection(name="s", url=f"{site.address}/a.jsonl.zst?download=true")
    site.faults = [200, 503, "drop", 503, "drop"]
    assert texts_of(source) == wanted


def test_dead_address_is_refused_before_reading(site: Any) -> None:
    with pytest.raises(ConfigError, match=r"gone.jsonl: the server answers 404"):
        resolve(SourceSection(name="s", url=f"{site.address}/gone.jsonl"), 0)
