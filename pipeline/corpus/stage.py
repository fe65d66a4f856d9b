"""Stage `corpus`: from sources to parts: stream, clean, deduplicate, decontaminate, split.

    source -> records (datasets stream) -> outcomes (worker processes) -> parts, set_aside.jsonl

One source after the other; a finished one leaves its ledger in `drafts/`, so a killed stage goes on with the next.
Which documents are kept depends on the sources, the config and the target alone, never on the number of workers.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pipeline.config.schema import CorpusSection, SourceSection
from pipeline.corpus.cleaning import CleaningRules, RecordResult, prepare, text_digest
from pipeline.corpus.contamination import Ngram, ngrams_in_part, ngrams_of_file
from pipeline.corpus.installed_text import docstrings
from pipeline.corpus.parts import part_paths, read_part
from pipeline.corpus.records import Record
from pipeline.corpus.source_counts import SourceCounts, totals
from pipeline.corpus.source_writer import SPLITS, SourceWriter
from pipeline.corpus.sources import ResolvedSource, find_all
from pipeline.errors import ConfigError, DataError, EnvironmentFault
from pipeline.execution.worker_pool import WorkerPool, worker_pool
from pipeline.graph.work import Work

BATCH_BYTES = 2_000_000
BATCH_RECORDS = 512
DEFAULT_NGRAM_WORDS = 13  # what is counted when decontamination is switched off

INSTALLED = SourceSection(name="installed-text", path="docstrings", license="those of the installed packages")


def build_corpus(work: Work) -> dict[str, Any]:
    """Write the parts of every source; returns the counts.

    Raises ConfigError for a source that is not there, DataError for one that gives no document or an empty validation
    split, EnvironmentFault for a network that does not answer.
    """
    with worker_pool(work.workers) as pool:
        return Build(work, pool).counts()


@dataclass
class Build:
    """One run of the stage: where it stands between its sources."""

    work: Work
    pool: WorkerPool

    def __post_init__(self) -> None:
        self.corpus: CorpusSection = self.work.slice["corpus"]
        self.drafts = self.work.folder / "drafts"
        self.validation_text = self.work.inputs["target"].folder / "validation.txt"
        self.seen: set[bytes] = set()

    def counts(self) -> dict[str, Any]:
        found, origin = self._sources()
        self.drafts.mkdir(parents=True, exist_ok=True)
        ledgers: list[SourceCounts] = []
        for index, source in enumerate(found):
            share = fair_share(self._bytes_left(ledgers), [one.source.max_bytes for one in found[index:]])
            ledgers.append(self._finished(index) or self._write(index, source, share))
        counts = totals(ledgers) | {"origin": origin, "contamination": self._contamination(ledgers)}
        self._check_validation(counts)
        self._publish_set_aside(len(ledgers))
        return counts

    def _sources(self) -> tuple[list[ResolvedSource], str]:
        """Where text will come from, and what to call that in the counts."""
        try:
            return find_all(self.corpus.sources, self.corpus.seed), "sources"
        except (ConfigError, EnvironmentFault) as error:
            if not self.corpus.fallback:
                raise
            self.work.progress.say(f"CORPUS NOT FOUND: {error.message}")
        self.work.progress.say("Using docstrings of the installed Python packages: a demonstration, not a result.")
        return [ResolvedSource(INSTALLED, lambda: docstrings(self.pool), INSTALLED.license)], "installed text"

    def _bytes_left(self, ledgers: Sequence[SourceCounts]) -> float:
        limit = math.inf if self.corpus.max_bytes is None else self.corpus.max_bytes
        return limit - sum(ledger.bytes for ledger in ledgers)

    def _finished(self, index: int) -> SourceCounts | None:
        """The ledger of a source that an earlier start finished; its texts count as seen again."""
        path = self.drafts / f"{index:02d}.json"
        if not path.exists():
            return None
        for split in SPLITS:
            for part in part_paths(self.work.folder, split, index):
                self.seen.update(text_digest(document["text"].encode()) for document in read_part(part))
        return SourceCounts.load(path)

    def _write(self, index: int, found: ResolvedSource, max_bytes: float) -> SourceCounts:
        ledger = SourceCounts(found.source.name, found.license, found.revision)
        writer = SourceWriter(
            self.work.folder,
            index,
            ledger,
            self.drafts / f"{index:02d}.jsonl",
            seen=self.seen,
            max_bytes=max_bytes,
            validation=self.corpus.validation,
            seed=self.corpus.seed,
            progress=self.work.progress,
        )
        capped = max_bytes < math.inf
        total = max_bytes if capped else found.total_bytes
        with writer, self.work.progress.task(f"reading {found.source.name}", total, "bytes") as task:
            for outcome in self._outcomes(found):
                if not writer.take(outcome):
                    break
                task.advance(len(outcome.document) if capped or not total else outcome.read)
            writer.finish()
        _check_documents(ledger, max_bytes)
        ledger.save(self.drafts / f"{index:02d}.json")
        return ledger

    def _outcomes(self, found: ResolvedSource) -> Iterator[RecordResult]:
        decontaminate = self.corpus.decontaminate
        recipe = CleaningRules(
            source=found.source.name,
            field=found.source.field,
            min_characters=self.corpus.min_characters,
            validation=self.validation_text,
            ngram_words=decontaminate.ngram_words if decontaminate else None,
        )
        for outcomes in self.pool.in_order(partial(prepare, recipe), batches(found.records())):
            yield from outcomes

    def _contamination(self, ledgers: Sequence[SourceCounts]) -> dict[str, int | None]:
        """What was removed, and how many n-grams of the validation text the written parts still hold: counted again."""
        words = self.corpus.decontaminate.ngram_words if self.corpus.decontaminate else None
        counted = words or DEFAULT_NGRAM_WORDS
        left: set[Ngram] = set()
        paths = [path for split in SPLITS for path in part_paths(self.work.folder, split)]
        with self.work.progress.task("searching the parts", len(paths), "parts") as task:
            search = partial(ngrams_in_part, self.validation_text, counted)
            for shared in self.pool.in_order(search, paths):
                left |= shared
                task.advance()
        return {
            "ngram_words": words,
            "documents_removed": sum(ledger.dropped.get("contaminated", 0) for ledger in ledgers),
            "bytes_removed": sum(ledger.contaminated_bytes for ledger in ledgers),
            "val_ngrams_total": len(ngrams_of_file(self.validation_text, counted).ngrams),
            "val_ngrams_left": len(left),
        }

    def _check_validation(self, counts: dict[str, Any]) -> None:
        if self.corpus.validation and not counts["validation_documents"]:
            raise DataError(
                f"None of {counts['documents_kept']:,} documents falls into the corpus' validation split of "
                f"{self.corpus.validation:.1%}.",
                remedy="Raise corpus.validation, or set it to 0 to pretrain without one.",
            )

    def _publish_set_aside(self, num_sources: int) -> None:
        draft = self.drafts / "set_aside.jsonl"
        with draft.open("wb") as whole:
            for index in range(num_sources):
                with (self.drafts / f"{index:02d}.jsonl").open("rb") as piece:
                    shutil.copyfileobj(piece, whole)
        draft.replace(self.work.folder / "set_aside.jsonl")
        shutil.rmtree(self.drafts)


def fair_share(bytes_left: float, caps: Sequence[int | None]) -> float:
    """How much the first of the remaining sources may give: an even share, where none gets more than its own cap."""
    limits = [math.inf if cap is None else cap for cap in caps]
    left, sharing = bytes_left, len(limits)
    for limit in sorted(limits):
        if limit > left / sharing:
            return min(limits[0], left / sharing)
        left, sharing = left - limit, sharing - 1
    return limits[0]


def batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Records in lists of about BATCH_BYTES: what one worker is given at a time."""
    batch: list[Record] = []
    size = 0
    for record in records:
        batch.append(record)
        size += len(record.payload) if isinstance(record.payload, bytes | str) else 0
        if size >= BATCH_BYTES or len(batch) == BATCH_RECORDS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _check_documents(ledger: SourceCounts, max_bytes: float) -> None:
    if ledger.documents:
        return
    if not ledger.documents_in:
        why = f"its first document is larger than its share of {max_bytes:,.0f} bytes" if max_bytes < math.inf else ""
        raise ConfigError(f"Source {ledger.name} gave no document: {why or 'it is empty'}.", remedy="Raise max_bytes.")
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(ledger.dropped.items()))
    raise DataError(
        f"Source {ledger.name} gave no document out of {ledger.documents_in:,} ({reasons}).",
        remedy="Check its field and path, or remove it from corpus.sources.",
    )
