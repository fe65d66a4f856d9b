"""Stage `corpus`: from sources to parts: stream, clean, deduplicate, decontaminate, split.

    source -> records (datasets stream) -> results (worker processes) -> parts, set_aside.jsonl

One source after the other; a finished one leaves its counts in `drafts/`, so a killed stage continues with the next.
Which documents are kept depends only on the sources, the config and the target, never on the number of workers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from pipeline.config.text_sections import CorpusSection, DecontaminateSection, SourceSection
from pipeline.corpus.cleaning import CleaningRules, RecordResult, clean_records
from pipeline.corpus.contamination import Ngram, ngrams_in_part, ngrams_of_file
from pipeline.corpus.installed_text import docstrings
from pipeline.corpus.parts import part_paths
from pipeline.corpus.records import Record, payload_bytes
from pipeline.corpus.seen_texts import SeenTexts
from pipeline.corpus.source_counts import SourceCounts, corpus_counts
from pipeline.corpus.source_files import SourceFiles, publish_set_aside
from pipeline.corpus.source_writer import FILE_DAMAGE, SourceWriter
from pipeline.corpus.sources import ResolvedSource, resolve_all
from pipeline.corpus.splits import CORPUS_SPLITS, SplitRule, target_file
from pipeline.errors import ConfigError, DataError, EnvironmentFault
from pipeline.execution.worker_pool import WorkerPool, worker_pool
from pipeline.graph.stage_counts import Contamination, CorpusCounts
from pipeline.graph.work import Work
from pipeline.runtime.progress import Progress

# A worker's unit: large enough that passing it to another process is cheap beside the work on it.
GROUP_BYTES = 2_000_000
GROUP_RECORDS = 512

INSTALLED = SourceSection(name="installed-text", path="docstrings", license="those of the installed packages")


def build_corpus(work: Work) -> CorpusCounts:
    """Write the parts of every source; returns the counts.

    Raises ConfigError for a source that is missing or empty, DataError for one that gives no document or for an empty
    validation split, EnvironmentFault for a network that does not answer.
    """
    section: CorpusSection = work.slice["corpus"]
    with worker_pool(work.workers) as pool:
        sources, origin = _resolved_sources(section, pool, work.progress)
        source_counts = _write_sources(sources, work, pool)
        contamination = _count_contamination(source_counts, work, pool)
    counts = corpus_counts(source_counts, origin, contamination)
    _refuse_empty_validation(section, counts)
    publish_set_aside(work.folder, len(sources))
    return counts


def _resolved_sources(section: CorpusSection, pool: WorkerPool, progress: Progress) -> tuple[list[ResolvedSource], str]:
    """The sources to read, and their `origin` for the counts."""
    try:
        return resolve_all(section.sources, section.seed), "sources"
    except (ConfigError, EnvironmentFault) as error:
        if not section.fallback:
            raise
        progress.say(f"CORPUS NOT FOUND: {error.message}")
    progress.say("Using docstrings of the installed Python packages: a demonstration, not a result.")
    return [ResolvedSource(INSTALLED, lambda: docstrings(pool), INSTALLED.license)], "installed text"


def _write_sources(sources: Sequence[ResolvedSource], work: Work, pool: WorkerPool) -> list[SourceCounts]:
    """Write what is not finished yet of the sources, in order; returns the counts of all."""
    limit = work.slice["corpus"].max_bytes
    seen = SeenTexts()
    all_counts: list[SourceCounts] = []
    for index, source in enumerate(sources):
        files = SourceFiles(work.folder, index)
        counts = files.finished_counts()
        if counts is None:
            bytes_left = (math.inf if limit is None else limit) - sum(finished.bytes for finished in all_counts)
            # What earlier sources left of their shares goes to the later ones, so shares are found anew each time.
            max_bytes = fair_share(bytes_left, [later.section.max_bytes for later in sources[index:]])
            counts = _write_source(source, files, seen, max_bytes, work, pool)
        else:
            # Its texts must count as seen again, or a restarted stage would keep duplicates that a whole one drops.
            for document in files.documents():
                seen.add_text(document["text"])
        all_counts.append(counts)
    return all_counts


def _write_source(
    source: ResolvedSource, files: SourceFiles, seen: SeenTexts, max_bytes: float, work: Work, pool: WorkerPool
) -> SourceCounts:
    """Write the parts of one source until it ends or `max_bytes` of text are kept, and then its counts."""
    section: CorpusSection = work.slice["corpus"]
    name = source.section.name
    counts = SourceCounts(name, source.license, source.revision)
    files.counts.parent.mkdir(parents=True, exist_ok=True)
    # The bar counts towards the cap where there is one: how much of the files has to be read for it is not known.
    capped = max_bytes < math.inf
    total = max_bytes if capped else source.total_bytes
    with (
        SourceWriter(files, counts, SplitRule(section.validation, section.seed), seen, max_bytes) as writer,
        work.progress.task(f"reading {name}", total, "bytes") as task,
    ):
        for result in _results(source, work, pool):
            if not writer.take(result):
                break
            if result.reason in FILE_DAMAGE:
                work.progress.say(_damage_line(name, result))
            task.advance(len(result.document) if capped or not total else result.file_bytes)
        writer.finish()
    _refuse_no_document(counts, max_bytes, full=writer.full)
    counts.save(files.counts)
    return counts


def _results(source: ResolvedSource, work: Work, pool: WorkerPool) -> Iterator[RecordResult]:
    """What becomes of each record of a source, in order."""
    section: CorpusSection = work.slice["corpus"]
    rules = CleaningRules(
        source=source.section.name,
        field=source.section.field,
        min_characters=section.min_characters,
        validation_text=_validation_text(work),
        ngram_words=section.decontaminate.ngram_words if section.decontaminate else None,
    )
    for results in pool.in_order(partial(clean_records, rules), record_groups(source.records())):
        yield from results


def _count_contamination(counts: Sequence[SourceCounts], work: Work, pool: WorkerPool) -> Contamination:
    """What was removed, and how many n-grams of the validation text the written parts still hold.

    The parts are read back and searched, so that the manifest does not rest on the code that removed them.
    """
    section: CorpusSection = work.slice["corpus"]
    ngram_words = section.decontaminate.ngram_words if section.decontaminate else None
    # Counted at the default length where decontamination is switched off, so that the size of the leak is known.
    counted_words = ngram_words or DecontaminateSection().ngram_words
    text_file = _validation_text(work)
    left: set[Ngram] = set()
    parts = [path for split in CORPUS_SPLITS for path in part_paths(work.folder, split)]
    with work.progress.task("searching the parts", len(parts), "parts") as task:
        for shared in pool.in_order(partial(ngrams_in_part, text_file, counted_words), parts):
            left |= shared
            task.advance()
    return Contamination(
        ngram_words=ngram_words,
        documents_removed=sum(source.dropped.get("contaminated", 0) for source in counts),
        bytes_removed=sum(source.contaminated_bytes for source in counts),
        val_ngrams_total=len(ngrams_of_file(text_file, counted_words).ngrams),
        val_ngrams_left=len(left),
    )


def _validation_text(work: Work) -> Path:
    return target_file(work.inputs["target"].folder, "validation")


def fair_share(bytes_left: float, caps: Sequence[int | None]) -> float:
    """How much text the first of the remaining sources may give: an even share, but at most its own cap.

    What a cap leaves unused is shared among the others: 100 bytes over caps of 20 and none are 20 and 80.
    """
    limits = [math.inf if cap is None else cap for cap in caps]
    left, sharing = bytes_left, len(limits)
    # Water-filling: the smallest cap first, since only a cap below the even share leaves something to the others.
    for limit in sorted(limits):
        if limit > left / sharing:
            return min(limits[0], left / sharing)
        left, sharing = left - limit, sharing - 1
    return limits[0]


def record_groups(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Records in lists of about GROUP_BYTES and at most GROUP_RECORDS: the units of work of the pool."""
    group: list[Record] = []
    size = 0
    for record in records:
        group.append(record)
        size += payload_bytes(record)
        if size >= GROUP_BYTES or len(group) == GROUP_RECORDS:
            yield group
            group, size = [], 0
    if group:
        yield group


def _damage_line(source: str, result: RecordResult) -> str:
    return (
        f"DAMAGED: {result.file} of {source} {FILE_DAMAGE[result.reason]} ({result.detail}); "
        f"{result.line - 1:,} records before that were read, what follows is lost."
    )


def _refuse_no_document(counts: SourceCounts, max_bytes: float, *, full: bool) -> None:
    """Raise ConfigError or DataError for a source of which nothing was kept; `full`: its cap is the reason."""
    if counts.documents:
        return
    too_large = f"its first usable document is larger than its share of {max_bytes:,.0f} bytes"
    raise_cap = "Raise corpus.max_bytes, or the max_bytes of the source."
    if counts.documents_in:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.dropped.items()))
        raise DataError(
            f"Source {counts.name} gave no document out of {counts.documents_in:,} ({reasons})"
            + (f": {too_large}." if full else "."),
            remedy=raise_cap if full else "Check its field and path, or remove it from corpus.sources.",
        )
    if full:
        raise ConfigError(f"Source {counts.name} gave no document: {too_large}.", remedy=raise_cap)
    raise ConfigError(
        f"Source {counts.name} gave no document: it has no records.",
        remedy="Name a source that has some, or remove it from corpus.sources.",
    )


def _refuse_empty_validation(section: CorpusSection, counts: CorpusCounts) -> None:
    if section.validation and not counts.validation_documents:
        raise DataError(
            f"None of {counts.documents_kept:,} documents falls into the corpus' validation split of "
            f"{section.validation:.1%}.",
            remedy="Raise corpus.validation, or set it to 0 to pretrain without one.",
        )
