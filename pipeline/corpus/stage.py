"""Stage `corpus`: from sources to parts: stream, clean, deduplicate, decontaminate, split.

    source -> records (datasets stream) -> results (worker processes) -> parts, set_aside.jsonl -> held-out part

One source after the other; a finished one leaves its counts in `drafts/`, so a killed stage continues with the next.
What of it was lost is in `losses`; how the held-out part is made where there are few documents, in `held_out`.
Which documents are kept depends only on the sources, the config and the target, never on the number of workers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

from pipeline.config.text_sections import CorpusSection, DecontaminateSection, SourceSection
from pipeline.corpus.cleaning import CleaningRules, RecordResult, clean_records
from pipeline.corpus.contamination import Ngram, ngrams_in_part, ngrams_of_file
from pipeline.corpus.held_out import hold_out, line_about, start_over_if_interrupted
from pipeline.corpus.installed_text import docstrings
from pipeline.corpus.losses import FILE_DAMAGE, damage_line, refuse_lost, refuse_no_document, summary
from pipeline.corpus.parts import part_paths
from pipeline.corpus.records import Record, payload_bytes
from pipeline.corpus.seen_texts import SeenTexts
from pipeline.corpus.source_counts import SourceCounts, corpus_counts
from pipeline.corpus.source_files import SourceFiles, publish_set_aside
from pipeline.corpus.source_writer import SourceWriter
from pipeline.corpus.sources import ResolvedSource, resolve_all
from pipeline.corpus.splits import CORPUS_SPLITS, SplitRule
from pipeline.corpus.target_splits import target_file
from pipeline.execution.worker_pool import WorkerPool, worker_pool
from pipeline.graph.stage_counts import Contamination, CorpusCounts
from pipeline.graph.work import Work
from pipeline.inputs.outside import INSTALLED_TEXT, find_sources

# A worker's unit: large enough that passing it to another process is cheap beside the work on it.
GROUP_BYTES = 2_000_000
GROUP_RECORDS = 512

INSTALLED = SourceSection(name="installed-text", path="docstrings", license="those of the installed packages")


def build_corpus(work: Work) -> CorpusCounts:
    """Write the parts of every source; returns the counts.

    Raises ConfigError for a source that is missing or empty, DataError for one that gives no document or lost too much,
    or if nothing can be held out, EnvironmentFault for a network that does not answer.
    """
    section: CorpusSection = work.slice["corpus"]
    with worker_pool(work.workers) as pool:
        sources, origin = _resolved_sources(work, pool)
        start_over_if_interrupted(work.folder, len(sources))
        read = _write_sources(sources, work, pool)
        source_counts, held_out = hold_out(work.folder, read, section)
        contamination = _count_contamination(source_counts, work, pool)
    publish_set_aside(work.folder, len(sources))
    work.progress.say(summary(source_counts))
    work.progress.say(line_about(held_out, source_counts))
    return corpus_counts(source_counts, origin, contamination, held_out)


def _resolved_sources(work: Work, pool: WorkerPool) -> tuple[list[ResolvedSource], str]:
    """The sources to read, and their `origin` for the counts."""
    section: CorpusSection = work.slice["corpus"]
    texts = work.outside or find_sources(section)
    stand_in = texts.get(INSTALLED_TEXT)
    if stand_in is None or stand_in.kind != "installed":
        return resolve_all(section.sources, section.seed, texts), "sources"
    work.progress.say(f"CORPUS NOT FOUND: {stand_in.note}")
    work.progress.say("Using docstrings of the installed Python packages: a demonstration, not a result.")
    return [ResolvedSource(INSTALLED, stand_in, lambda: docstrings(pool), INSTALLED.license)], "installed text"


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
            earlier = [finished.name for finished in all_counts]
            counts = _write_source(source, files, seen, max_bytes, earlier, work, pool)
        else:
            # Its texts must count as seen again, or a restarted stage would keep duplicates that a whole one drops.
            for document in files.documents():
                seen.add_text(document["text"])
        # After the counts are saved: once the loss is accepted, which changes no text, nothing is read again.
        refuse_lost(counts, work.slice["corpus"].max_lost)
        all_counts.append(counts)
    return all_counts


def _write_source(
    source: ResolvedSource,
    files: SourceFiles,
    seen: SeenTexts,
    max_bytes: float,
    earlier: Sequence[str],
    work: Work,
    pool: WorkerPool,
) -> SourceCounts:
    """Write the parts of one source until it ends or `max_bytes` of text are kept, and then its counts.

    `earlier` names the sources whose texts were `seen`.
    """
    section: CorpusSection = work.slice["corpus"]
    name = source.section.name
    counts = SourceCounts(name, source.license, source.revision, source.section.field)
    counts.files_found = len(source.text.files) + len(source.unreadable)
    files.counts.parent.mkdir(parents=True, exist_ok=True)
    # The bar counts towards the cap where there is one: how much of the files has to be read for it is not known.
    capped = max_bytes < math.inf
    total = max_bytes if capped else source.total_bytes
    with (
        SourceWriter(files, counts, SplitRule(section.validation, section.seed), seen, max_bytes) as writer,
        work.progress.task(f"reading {name}", total, "bytes") as task,
    ):
        for result in chain(_unreadable(source), _results(source, work, pool)):
            if not writer.take(result):
                break
            if result.reason in FILE_DAMAGE:
                work.progress.say(damage_line(name, result.file, result.reason, result.detail, result.line - 1))
            task.advance(len(result.document) if capped or not total else result.file_bytes)
        writer.finish()
    refuse_no_document(counts, max_bytes, writer.too_large_bytes, earlier)
    # Before the counts, which make the source a finished one: a restarted stage would trust what was read of it.
    source.text.refuse_changed()
    counts.save(files.counts)
    return counts


def _unreadable(source: ResolvedSource) -> Iterator[RecordResult]:
    """What the path of a source matched that is no file, such as dangling links, as damage."""
    for entry in source.unreadable:
        yield RecordResult(entry.name, 1, entry.reason)


def _results(source: ResolvedSource, work: Work, pool: WorkerPool) -> Iterator[RecordResult]:
    """What becomes of each record of a source, in order."""
    section: CorpusSection = work.slice["corpus"]
    rules = CleaningRules(
        source=source.section.name,
        field=source.section.field,
        min_characters=section.min_characters,
        validation_text=_validation_text(work),
        ngram_words=section.decontaminate.ngram_words if section.decontaminate else None,
        encoding=source.section.encoding,
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
