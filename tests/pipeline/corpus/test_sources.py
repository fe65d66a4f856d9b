from __future__ import annotations

import json
import os
import subprocess
import sys
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
from pipeline.inputs.local_files import Unreadable
from pipeline.inputs.outside import find_source

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


def test_no_source_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"corpus\.sources is empty"):
        resolve_all([], 0)


def test_what_matched_but_is_no_file_is_handed_on(tmp_path: Path, write_lines: Writer) -> None:
    write_lines(tmp_path / "a.jsonl", ["text"])
    (tmp_path / "b.jsonl").symlink_to("nowhere")
    source = resolve(SourceSection(name="s", path=str(tmp_path / "*.jsonl")), 0)
    assert source.unreadable == (Unreadable("b.jsonl", "dangling_link"),)


def test_the_files_that_were_identified_are_read_and_no_others(tmp_path: Path, write_lines: Writer) -> None:
    write_lines(tmp_path / "a.jsonl", ["one"])
    section = SourceSection(name="s", path=str(tmp_path / "*.jsonl"))
    found = find_source(section)
    write_lines(tmp_path / "b.jsonl", ["two"])
    assert [json.loads(record.payload)["text"] for record in resolve(section, 0, found).records()] == ["one"]


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


def test_local_files_need_no_cache_of_the_hub(tmp_path: Path, write_lines: Writer) -> None:
    """In a new process, which reads HF_HOME when `datasets` is imported. A file in its place refuses root as well."""
    write_lines(tmp_path / "a.jsonl", ["one", "two"])
    (tmp_path / "no-folder").touch()
    script = f"""
from pipeline.config.text_sections import SourceSection
from pipeline.corpus.sources import resolve
print(len(list(resolve(SourceSection(path="{tmp_path}/a.jsonl"), 0).records())))
"""
    environment = os.environ | {"HF_HOME": str(tmp_path / "no-folder" / "below")}
    output = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True).stdout
    assert output == b"2\n"


def test_fewer_archives_are_open_at_once_where_their_windows_are_large(tmp_path: Path) -> None:
    """Windows of 1 GiB: two of them take what one archive of `zstd --long=31` may take."""
    paths = []
    for window_log in (30, 20):
        parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=window_log, enable_ldm=False)
        compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        paths.append(tmp_path / f"{window_log}.jsonl.zst")
        paths[-1].write_bytes(compressor.compress(b'{"text": "a"}') + compressor.flush())
    assert sources.files_at_once([str(path) for path in paths]) == 2
    assert sources.files_at_once([str(paths[1]), "a.txt", str(tmp_path / "gone.zst")]) == sources.OPEN_FILES
