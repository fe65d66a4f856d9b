"""What became of everything that a source matched, in words: the line at the end of the stage, and its refusals.

What is *lost* was meant to be read: damaged and unreadable files, undecodable text, records without their field. What
is *dropped* was read, and left out on purpose: duplicates, short texts, quotations of the target's validation text.
Only losses are held against `corpus.max_lost`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from pipeline.corpus.fields import closest_key
from pipeline.corpus.source_counts import SourceCounts
from pipeline.errors import ConfigError, DataError
from pipeline.runtime.formatting import counted, readable_bytes

# Reasons that end a file, and how the operator reads them. Every other reason is about a single record.
FILE_DAMAGE = {
    "empty_file": "has no bytes",
    "truncated_file": "ends early",
    "corrupt_file": "is corrupt",
    "large_window": "takes too much memory",
    "missing_column": "lacks the column",
    "undecodable_file": "is in another encoding",
    "unreadable_file": "cannot be read",
    "dangling_link": "is a link to nothing",
    "no_regular_file": "is no regular file",
}
UNREADABLE = ("unreadable_file", "dangling_link", "no_regular_file")
ENCODING = ("undecodable_file", "undecodable", "invalid_utf8")
LOST_RECORDS = frozenset(
    {
        "broken_json",
        "invalid_utf8",
        "lone_surrogate",
        "missing_field",
        "not_an_object",
        "not_text",
        "too_long",
        "undecodable",
    }
)
CURES = {
    "contaminated": "Set corpus.decontaminate: false to train on the target's validation text all the same",
    "duplicate": "Give it texts of its own",
    "large_window": "Compress the content again with zstd --long=27",
    **dict.fromkeys(UNREADABLE, "Restore those files, or narrow the path"),
}
SHOWN_KEYS = 12


def lost_documents(dropped: Mapping[str, int]) -> dict[str, int]:
    """Records that were lost, by reason."""
    return {reason: count for reason, count in sorted(dropped.items()) if reason in LOST_RECORDS}


def lost_files(dropped: Mapping[str, int]) -> dict[str, int]:
    """Files that were lost, or the rest of them was, by reason."""
    return {reason: count for reason, count in sorted(dropped.items()) if reason in FILE_DAMAGE}


def summary(counts: Sequence[SourceCounts]) -> str:
    """One line about all sources: what was kept, lost and dropped, and why."""
    dropped: Counter[str] = Counter()
    for source in counts:
        dropped.update(source.dropped)
    records, files = lost_documents(dropped), lost_files(dropped)
    documents_in = sum(source.documents_in for source in counts) - sum(files.values())
    kept = sum(source.documents for source in counts)
    others = {reason: count for reason, count in dropped.items() if reason not in records and reason not in files}
    found = sum(max(source.files_found, source.files) for source in counts)
    line = f"kept {kept:,} of {documents_in:,} documents in {counted(found, 'file')}"
    lost_bytes = sum(source.lost_bytes for source in counts)
    size = f", {readable_bytes(lost_bytes)} or more" if lost_bytes else ""
    parts = [
        f"LOST {counted(sum(records.values()), 'document')}: {_reasons(records)}" if records else "",
        f"LOST {counted(sum(files.values()), 'file')}: {_reasons(files)}{size}" if files else "",
        f"dropped {sum(others.values()):,}: {_reasons(others)}" if others else "",
    ]
    return "; ".join([line, *filter(None, parts)]) + (" (each is in set_aside.jsonl)" if dropped else "")


def _reasons(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items(), key=lambda item: -item[1]))


def lost_share(counts: SourceCounts) -> float:
    """The share of a source that was lost: of its records or of its files, whichever is larger."""
    # A damaged file counts as a whole: how much is missing of one that ends early, nobody can know.
    files = sum(lost_files(counts.dropped).values())
    records_in = counts.documents_in - files
    of_records = sum(lost_documents(counts.dropped).values()) / records_in if records_in else 0.0
    return max(of_records, files / max(counts.files_found, counts.files, 1) if files else 0.0)


def refuse_lost(counts: SourceCounts, max_lost: float) -> None:
    """Raise DataError if more of a source was lost than `max_lost` allows, with the reasons and the cure."""
    share = lost_share(counts)
    if share <= max_lost:
        return
    records, files = lost_documents(counts.dropped), lost_files(counts.dropped)
    found = max(counts.files_found, counts.files)
    what = [
        f"{sum(records.values()):,} of {counts.documents_in - sum(files.values()):,} documents" if records else "",
        f"{sum(files.values()):,} of {found:,} files" if files else "",
    ]
    lost = " and ".join(filter(None, what))
    raise DataError(
        f"Source {counts.name} lost {lost}, more than corpus.max_lost {max_lost * 100:.3g}%: "
        f"{_told({**records, **files}, counts)}.",
        remedy=f"{_cure({**records, **files}, counts)}, or accept the loss with corpus.max_lost: "
        f"{min(math.ceil(share * 100), 100)}%.",
    )


def refuse_no_document(counts: SourceCounts, max_bytes: float, too_large_bytes: int, earlier: Sequence[str]) -> None:
    """Raise ConfigError or DataError for a source of which nothing was kept, with the reason why.

    `too_large_bytes` is the size of the document at which `max_bytes` ended it, 0 if it was read to its end; `earlier`
    names the sources before it.
    """
    if counts.documents:
        return
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.dropped.items()))
    out_of = f" out of {counts.documents_in:,} ({reasons})" if counts.documents_in else ""
    if too_large_bytes:
        error = DataError if counts.documents_in else ConfigError
        raise error(
            f"Source {counts.name} gave no document{out_of}: its first usable document has {too_large_bytes:,} bytes, "
            f"and is larger than its share of {max_bytes:,.0f} bytes.",
            remedy="Raise corpus.max_bytes, or the max_bytes of the source.",
        )
    if not counts.documents_in:
        raise ConfigError(
            f"Source {counts.name} gave no document: it has no records.",
            remedy="Name a source that has some, or remove it from corpus.sources.",
        )
    raise DataError(
        f"Source {counts.name} gave no document{out_of}: {_told(counts.dropped, counts, earlier)}.",
        remedy=f"{_cure(counts.dropped, counts)}, or remove it from corpus.sources.",
    )


def _told(reasons: Mapping[str, int], counts: SourceCounts, earlier: Sequence[str] = ()) -> str:
    """Each reason with its count, what is known of it, and the first places."""
    told = []
    for reason, count in sorted(reasons.items(), key=lambda item: -item[1]):
        places = ", ".join(counts.places.get(reason, []))
        told.append(f"{count:,} {reason}{_known(reason, counts, earlier)}{f' ({places})' if places else ''}")
    return "; ".join(told)


def _known(reason: str, counts: SourceCounts, earlier: Sequence[str]) -> str:
    if reason in ("missing_field", "missing_column"):
        return f", the keys that are there: {_keys(counts, reason)}"
    if reason == "too_short":
        return f", the longest has {counts.longest_too_short:,} characters"
    if reason == "duplicate" and earlier:
        return f", each is in {' or '.join(earlier)} already"
    return ""


def _keys(counts: SourceCounts, reason: str) -> str:
    """The keys of the records without the field; how often each is there, where that differs."""
    hints = counts.hints.get(reason, {})
    all_of_them = counts.dropped[reason]
    keys = [key if count == all_of_them else f"{key} ({count:,})" for key, (count, _) in hints.items()]
    return (", ".join(keys[:SHOWN_KEYS]) + (", ..." if len(keys) > SHOWN_KEYS else "")) or "none"


def _cure(reasons: Mapping[str, int], counts: SourceCounts) -> str:
    """What would save most of it, without a full stop."""
    reason = max(reasons, key=lambda reason: (reason in LOST_RECORDS or reason in FILE_DAMAGE, reasons[reason]))
    hints = counts.hints.get(reason, {})
    if reason in ("missing_field", "missing_column"):
        key = closest_key(counts.field, {key: weight for key, (_, weight) in hints.items()})
        return f"Set field: {key} in source {counts.name}" if key else f"Set the field of source {counts.name}"
    if reason in ENCODING:
        guess = max(hints, key=lambda hint: hints[hint][0], default="")
        return f"Set encoding{f': {guess}' if guess else ''} in source {counts.name}"
    if reason == "too_short":
        return f"Set corpus.min_characters: {counts.longest_too_short}"
    return CURES.get(reason, "Restore those files" if reason in FILE_DAMAGE else "Correct those records")


def damage_line(source: str, file: str, reason: str, detail: str, num_records: int) -> str:
    """What an operator reads when a file turns out to be damaged, after `num_records` of it were read."""
    rest = f"{num_records:,} records before that were read, what follows is lost" if num_records else "it is lost"
    return f"DAMAGED: {file} of {source} {FILE_DAMAGE[reason]}{f' ({detail})' if detail else ''}; {rest}."
