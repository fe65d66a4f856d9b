"""Sources: where the corpus comes from, as one stream of records each. With `hub.py` the only importer of `datasets`.

Files of a source are read in turns: up to OPEN_FILES at a time, TURN_BYTES from each, in an order that depends on their
names and the seed alone. So a source that is cut off by max_bytes still holds something of many files, not all of the
first, and the order is the same on every machine.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from pipeline.config.schema import SourceSection
from pipeline.corpus.http_file import WebFile
from pipeline.corpus.hub import HubDataset
from pipeline.corpus.records import SUFFIXES, Record, is_supported, read_file
from pipeline.errors import ConfigError

# The stream is never handed to torch, and `datasets` would spend three seconds on importing it.
datasets.config.TORCH_AVAILABLE = False

OPEN_FILES = 16
TURN_BYTES = 1_000_000
File = tuple[str, str]  # address, and the name that records carry


@dataclass(frozen=True)
class ResolvedSource:
    """A source that answers. `total_bytes` of its files as stored, None if unknown."""

    source: SourceSection
    records: Callable[[], Iterable[Record]]
    license: str
    revision: str | None = None
    total_bytes: int | None = None


def find_all(sources: Sequence[SourceSection], seed: int) -> list[ResolvedSource]:
    """Every source of the config. Raises ConfigError or EnvironmentFault for the first that is not there."""
    if not sources:
        raise ConfigError("corpus.sources is empty.", remedy="Name at least one path, url or hub dataset.")
    return [find(source, seed) for source in sources]


def find(source: SourceSection, seed: int) -> ResolvedSource:
    """Look whether a source is there, without reading it. Raises ConfigError or EnvironmentFault if it is not."""
    if source.hub is not None:
        return _find_hub(source, source.hub)
    if source.url is not None:
        return _find_url(source, source.url)
    assert source.path is not None, "the config gives each source exactly one origin"
    return _find_files(source, source.path, seed)


def _find_hub(source: SourceSection, name: str) -> ResolvedSource:
    dataset = HubDataset.find(name, source.subset, source.split, source.revision)
    license_ = source.license if source.license != "unknown" else dataset.license
    return ResolvedSource(source, lambda: dataset.records(source.field), license_, dataset.revision)


def _find_url(source: SourceSection, url: str) -> ResolvedSource:
    name = url.partition("?")[0].rpartition("/")[2]
    _check_suffix(url, name)
    total_bytes = None
    if url.startswith(("http://", "https://")):
        with WebFile(url) as file:
            total_bytes = file.announced_bytes()
    return ResolvedSource(source, lambda: stream([(url, name)], source.field), source.license, None, total_bytes)


def _find_files(source: SourceSection, pattern: str, seed: int) -> ResolvedSource:
    paths = [Path(path) for path in glob.glob(pattern, recursive=True) if Path(path).is_file()]
    if not paths:
        raise ConfigError(f"Source {source.name}: no file matches {pattern!r}.", remedy=_missing_remedy(pattern))
    root = paths[0].parent if len(paths) == 1 else Path(os.path.commonpath([path.parent for path in paths]))
    files = [(str(path), _printable(path.relative_to(root))) for path in paths]
    for address, name in files:
        _check_suffix(address, name)
    files.sort(key=lambda file: hashlib.blake2b(f"{seed} {file[1]}".encode()).digest())
    total_bytes = sum(path.stat().st_size for path in paths)
    return ResolvedSource(source, lambda: stream(files, source.field), source.license, None, total_bytes)


def stream(files: list[File], field: str) -> Iterator[Record]:
    """The records of many files in turns, as a `datasets` stream."""
    # A tuple, because `datasets` takes a list for shards and would read them one after the other.
    dataset = datasets.IterableDataset.from_generator(_examples, gen_kwargs={"files": tuple(files), "field": field})
    return (Record(**example) for example in dataset)


def _examples(files: tuple[File, ...], field: str) -> Iterator[dict[str, Any]]:
    for record in in_turns(read_file(address, name, field) for address, name in files):
        yield record._asdict()


def in_turns(readers: Iterable[Iterator[Record]]) -> Iterator[Record]:
    """The records of all readers, about TURN_BYTES of one after the other, OPEN_FILES of them at a time."""
    waiting = iter(readers)
    reading: deque[Iterator[Record]] = deque()
    while True:
        while len(reading) < OPEN_FILES and (reader := next(waiting, None)) is not None:
            reading.append(reader)
        if not reading:
            return
        reader = reading.popleft()
        if (yield from _turn(reader)):
            reading.append(reader)


def _turn(reader: Iterator[Record]) -> Generator[Record, None, bool]:
    """Yield about TURN_BYTES of records; returns whether more may come."""
    passed = 0
    for record in reader:
        yield record
        passed += len(record.payload) if isinstance(record.payload, bytes | str) else 0
        if passed >= TURN_BYTES:
            return True
    return False


def _check_suffix(address: str, name: str) -> None:
    if not is_supported(name):
        raise ConfigError(
            f"{address} is none of {', '.join(SUFFIXES)}, each also with .gz or .zst.",
            remedy="Narrow the pattern of the source, or convert the file.",
        )


def _missing_remedy(pattern: str) -> str:
    if "${FOLIO_DATA}" in pattern or not os.environ.get("FOLIO_DATA"):
        return "FOLIO_DATA is not set: set it to the folder with your data, or correct the path."
    return "Correct the path, or FOLIO_DATA."


def _printable(path: Path) -> str:
    return str(path).encode("utf-8", "backslashreplace").decode()
