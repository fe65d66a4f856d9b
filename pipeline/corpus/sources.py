"""Sources: where the corpus comes from, as one stream of records each. Only this module and `hub` import `datasets`.

Files of a source are read in turns: up to OPEN_FILES at a time, TURN_BYTES from each, in an order that depends only on
their names and the seed. So a source that is cut off by max_bytes has text from many files instead of all of the first,
and the order is the same on every machine.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from pipeline.config.text_sections import SourceSection
from pipeline.corpus.http_file import HttpFile
from pipeline.corpus.hub import HubDataset
from pipeline.corpus.records import SUFFIXES, Record, is_supported, payload_bytes, read_file
from pipeline.errors import ConfigError

# The stream is never passed to torch, and importing it would take `datasets` three seconds.
datasets.config.TORCH_AVAILABLE = False

OPEN_FILES = 16
TURN_BYTES = 1_000_000
File = tuple[str, str]  # address, and the name that records carry
UNSET_DATA_FOLDER = re.compile(r"\$(FOLIO_DATA\b|\{FOLIO_DATA\})")


@dataclass(frozen=True)
class ResolvedSource:
    """A source that was found. `total_bytes` is the size of its files as stored, None if unknown.

    `records` opens the stream anew with each call; `license` and `revision` go into the corpus' manifest.
    """

    section: SourceSection
    records: Callable[[], Iterable[Record]]
    license: str
    revision: str | None = None
    total_bytes: int | None = None


def resolve_all(sections: Sequence[SourceSection], seed: int) -> list[ResolvedSource]:
    """Every source of the config, in order. Raises ConfigError or EnvironmentFault for the first that is missing."""
    # All before the first is read: a typo in the last source should not surface after hours.
    if not sections:
        raise ConfigError("corpus.sources is empty.", remedy="Name at least one path, url or hub dataset.")
    return [resolve(section, seed) for section in sections]


def resolve(section: SourceSection, seed: int) -> ResolvedSource:
    """Locate a source without reading it. Raises ConfigError if it is missing, EnvironmentFault if a server fails."""
    if section.hub is not None:
        return _resolve_hub(section, section.hub)
    if section.url is not None:
        return _resolve_url(section, section.url)
    assert section.path is not None, "the config gives each source exactly one origin"
    return _resolve_files(section, section.path, seed)


def _resolve_hub(section: SourceSection, name: str) -> ResolvedSource:
    dataset = HubDataset.resolve(name, section.subset, section.split, section.revision)
    # What the config says about the license was read by a person; the dataset's card is the second best.
    license_ = section.license if section.license != "unknown" else dataset.license
    return ResolvedSource(section, lambda: dataset.records(section.field), license_, dataset.revision)


def _resolve_url(section: SourceSection, url: str) -> ResolvedSource:
    name = url.partition("?")[0].rpartition("/")[2]
    _check_suffix(url, name)
    total_bytes = None
    if url.startswith(("http://", "https://")):
        with HttpFile(url) as file:
            total_bytes = file.announced_bytes()
    return ResolvedSource(section, lambda: stream([(url, name)], section.field), section.license, None, total_bytes)


def _resolve_files(section: SourceSection, pattern: str, seed: int) -> ResolvedSource:
    paths = [Path(path) for path in glob.glob(pattern, recursive=True) if Path(path).is_file()]
    if not paths:
        raise ConfigError(f"Source {section.name}: no file matches {pattern!r}.", remedy=_missing_remedy(pattern))
    # Names relative to what the files have in common, so that another data folder gives the same names and order.
    root = paths[0].parent if len(paths) == 1 else Path(os.path.commonpath([path.parent for path in paths]))
    files = [(str(path), _printable(path.relative_to(root))) for path in paths]
    for address, name in files:
        _check_suffix(address, name)
    # By hash, so that the files that a max_bytes cuts off are a random sample and not the last of the alphabet.
    files.sort(key=lambda file: hashlib.blake2b(f"{seed} {file[1]}".encode()).digest())
    total_bytes = sum(path.stat().st_size for path in paths)
    return ResolvedSource(section, lambda: stream(files, section.field), section.license, None, total_bytes)


def stream(files: list[File], field: str) -> Iterator[Record]:
    """The records of many files in turns, as a `datasets` stream."""
    # A tuple, because `datasets` takes a list for shards and would read them one after the other.
    dataset = datasets.IterableDataset.from_generator(_examples, gen_kwargs={"files": tuple(files), "field": field})
    return (Record(**example) for example in dataset)


def _examples(files: tuple[File, ...], field: str) -> Iterator[dict[str, Any]]:
    for record in in_turns(read_file(address, name, field) for address, name in files):
        yield record._asdict()


def in_turns(readers: Iterable[Iterator[Record]]) -> Iterator[Record]:
    """The records of all readers: about TURN_BYTES from each in turn, OPEN_FILES readers at a time."""
    waiting = iter(readers)
    reading: deque[Iterator[Record]] = deque()
    while True:
        while len(reading) < OPEN_FILES and (reader := next(waiting, None)) is not None:
            reading.append(reader)
        if not reading:
            return
        reader = reading.popleft()
        # A reader that is not done goes to the back of the queue; a finished one makes room for the next that waits.
        if (yield from _turn(reader)):
            reading.append(reader)


def _turn(reader: Iterator[Record]) -> Generator[Record, None, bool]:
    """Yield about TURN_BYTES of records; returns whether more may come."""
    passed_bytes = 0
    for record in reader:
        yield record
        passed_bytes += payload_bytes(record)
        if passed_bytes >= TURN_BYTES:
            return True
    return False


def _check_suffix(address: str, name: str) -> None:
    if not is_supported(name):
        raise ConfigError(
            f"{address} does not end in one of {', '.join(SUFFIXES)}, each also with .gz or .zst.",
            remedy="Narrow the pattern of the source, or convert the file.",
        )


def _missing_remedy(pattern: str) -> str:
    # The runner has expanded the variables that are set, so one that still stands in the pattern is not.
    if UNSET_DATA_FOLDER.search(pattern):
        return "FOLIO_DATA is not set: set it to the folder with your data, or correct the path."
    folder = os.environ.get("FOLIO_DATA")
    if folder and Path(pattern).is_relative_to(folder) and not Path(folder).is_dir():
        return f"FOLIO_DATA is {folder}, and there is no such folder: set it to the folder with your data."
    return "Correct the path."


def _printable(path: Path) -> str:
    """The path as UTF-8 can hold it: a file name may be any bytes, which Python keeps as lone surrogates."""
    return str(path).encode("utf-8", "backslashreplace").decode()
