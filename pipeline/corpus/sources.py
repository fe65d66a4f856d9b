"""Sources: where the corpus comes from, as one stream of records each. Only this module and `hub` import `datasets`.

Files of a source are read in turns: up to OPEN_FILES at a time, TURN_BYTES from each, in an order that depends only on
their names and the seed. So a source that is cut off by max_bytes has text from many files instead of all of the first,
and the order is the same on every machine.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import datasets
from datasets.io.generator import GeneratorDatasetInputStream

from pipeline.config.text_sections import CorpusSection, SourceSection
from pipeline.corpus.decompress import FRAME_HEADER_BYTES, LARGEST_WINDOW_BYTES, announced_window
from pipeline.corpus.hub import HubDataset
from pipeline.corpus.records import Record, payload_bytes, read_file
from pipeline.inputs.local_files import Unreadable
from pipeline.inputs.outside import OutsideText, Texts, find_source, find_sources

# The stream is never passed to torch, and importing it would take `datasets` three seconds.
datasets.config.TORCH_AVAILABLE = False

OPEN_FILES = 16
TURN_BYTES = 1_000_000
File = tuple[str, str]  # address, and the name that records carry


@dataclass(frozen=True)
class ResolvedSource:
    """A source that was found, and `text`, as what. `total_bytes` is the size of its files as stored, None if unknown.

    `records` opens the stream anew with each call; `license` and `revision` go into the corpus' manifest.
    """

    section: SourceSection
    text: OutsideText
    records: Callable[[], Iterable[Record]]
    license: str
    revision: str | None = None
    total_bytes: int | None = None

    @property
    def unreadable(self) -> tuple[Unreadable, ...]:
        """What the pattern matched besides files: dangling links and pipes."""
        return self.text.unreadable


def resolve_all(sections: Sequence[SourceSection], seed: int, texts: Texts | None = None) -> list[ResolvedSource]:
    """Every source of the config, in order; `texts` holds them as they were fingerprinted.

    Without `texts` they are looked for here. Raises ConfigError or EnvironmentFault for the first that is missing.
    """
    texts = texts or find_sources(CorpusSection(sources=tuple(sections)))
    return [resolve(section, seed, texts[section.name]) for section in sections]


def resolve(section: SourceSection, seed: int, text: OutsideText | None = None) -> ResolvedSource:
    """A source as a stream, without reading it; `text` is what was found of it.

    Raises ConfigError if it is missing, EnvironmentFault if a server fails.
    """
    text = text or find_source(section)
    if text.kind == "hub":
        return _hub_dataset(section, text)
    if text.kind == "web":
        return _web_file(section, text)
    return _local_files(section, text, seed)


def _hub_dataset(section: SourceSection, text: OutsideText) -> ResolvedSource:
    dataset = HubDataset.resolve(text.address, section.subset, section.split, text.identity["commit"])
    # What the config says about the license was read by a person; the dataset's card is the second best.
    license_ = section.license if section.license != "unknown" else dataset.license
    return ResolvedSource(section, text, lambda: dataset.records(section.field), license_, dataset.revision)


def _web_file(section: SourceSection, text: OutsideText) -> ResolvedSource:
    file = (text.address, text.files_name)
    total_bytes = int(text.identity["bytes"]) if "bytes" in text.identity else None
    return ResolvedSource(section, text, lambda: stream([file], section), section.license, None, total_bytes)


def _local_files(section: SourceSection, text: OutsideText, seed: int) -> ResolvedSource:
    # By hash, so that the files that a max_bytes cuts off are a random sample and not the last of the alphabet.
    found = sorted(text.files, key=lambda file: hashlib.blake2b(f"{seed} {file.name}".encode()).digest())
    files = [(file.path, file.name) for file in found]
    total_bytes = sum(file.bytes for file in found)
    return ResolvedSource(section, text, lambda: stream(files, section), section.license, None, total_bytes)


def stream(files: list[File], section: SourceSection) -> Iterator[Record]:
    """The records of many files in turns, as a `datasets` stream."""
    # A tuple, because `datasets` takes a list for shards and would read them one after the other.
    read = {"files": tuple(files), "field": section.field, "encoding": section.encoding}
    # As IterableDataset.from_generator, which would write a lock into a cache that need not be writable, or be there.
    with TemporaryDirectory() as cache:
        dataset = GeneratorDatasetInputStream(_examples, gen_kwargs=read, cache_dir=cache, streaming=True).read()
    return (Record(**example) for example in dataset)


def _examples(files: tuple[File, ...], field: str, encoding: str | None) -> Iterator[dict[str, Any]]:
    readers = (read_file(address, name, field, encoding) for address, name in files)
    for record in in_turns(readers, files_at_once([address for address, _ in files])):
        yield record._asdict()


def files_at_once(addresses: Sequence[str]) -> int:
    """OPEN_FILES, or fewer where zstd windows are so large that so many would take more memory than the largest one."""
    archives = [address for address in addresses if address.endswith(".zst") and "://" not in address]
    largest = max(map(_window_of, archives), default=0)
    return min(OPEN_FILES, max(LARGEST_WINDOW_BYTES // largest, 1)) if largest else OPEN_FILES


def _window_of(path: str) -> int:
    try:
        with Path(path).open("rb") as file:
            return announced_window(file.read(FRAME_HEADER_BYTES))
    except OSError:
        return 0  # reading it says what is wrong


def in_turns(readers: Iterable[Iterator[Record]], at_once: int | None = None) -> Iterator[Record]:
    """The records of all readers: about TURN_BYTES from each in turn, `at_once` (OPEN_FILES) readers at a time."""
    waiting = iter(readers)
    reading: deque[Iterator[Record]] = deque()
    while True:
        while len(reading) < (at_once or OPEN_FILES) and (reader := next(waiting, None)) is not None:
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
