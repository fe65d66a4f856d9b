"""Takes the results of one source in order: keeps each new text once, splits by hash, sets the rest aside."""

from __future__ import annotations

import json

from pipeline.corpus.cleaning import RecordResult
from pipeline.corpus.losses import ENCODING, FILE_DAMAGE, LOST_RECORDS, UNREADABLE
from pipeline.corpus.seen_texts import SeenTexts
from pipeline.corpus.source_counts import SourceCounts
from pipeline.corpus.source_files import SourceFiles
from pipeline.corpus.splits import SplitRule


class SourceWriter:
    """Writes the parts of one source and what it set aside; counts into `counts`, and adds kept texts to `seen`.

    Only the main process writes, and in the order of the records. So the parts do not depend on the number of workers,
    and of two equal texts the first is kept.
    """

    def __init__(
        self, files: SourceFiles, counts: SourceCounts, split_rule: SplitRule, seen: SeenTexts, max_bytes: float
    ) -> None:
        self.counts, self.split_rule, self.seen, self.max_bytes = counts, split_rule, seen, max_bytes
        self.too_large_bytes = 0  # of the document that was refused because it would have crossed max_bytes
        self._parts = files.part_writers()
        self._file_names: set[str] = set()
        self._set_aside = files.set_aside.open("w", encoding="utf-8")

    def __enter__(self) -> SourceWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._set_aside.close()

    def take(self, result: RecordResult) -> bool:
        """Keep or set aside; False, and nothing counted, at the document that would cross `max_bytes` of text."""
        if result.reason not in UNREADABLE:
            self._file_names.add(result.file)
        # Only here can duplicates be seen: a worker knows the records of its own unit of work.
        reason = result.reason or ("duplicate" if result.digest in self.seen else "")
        if reason:
            self._drop(result, reason)
        elif self.counts.bytes + result.text_bytes > self.max_bytes:
            self.too_large_bytes = result.text_bytes
        else:
            self._keep(result)
        return not self.too_large_bytes

    def finish(self) -> None:
        """Write what is still held."""
        self.counts.files = len(self._file_names)
        for writer in self._parts.values():
            writer.flush()

    def _keep(self, result: RecordResult) -> None:
        self.seen.add(result.digest)
        split = self.split_rule.split_of(result.digest)
        self._parts[split].add(result.document)
        self.counts.count_kept(result.text_bytes, validation=split == "validation")

    def _drop(self, result: RecordResult, reason: str) -> None:
        counts = self.counts
        counts.count_dropped(reason)
        # The place and not the text: what was set aside may be private, broken or huge.
        entry: dict[str, str | int] = {
            "source": counts.name,
            "file": result.file,
            "line": result.line,
            "reason": reason,
        }
        if reason == "contaminated":
            counts.contaminated_bytes += result.text_bytes
        elif reason == "too_short":
            counts.longest_too_short = max(counts.longest_too_short, result.characters)
        if reason in FILE_DAMAGE:
            counts.damaged_files.append({"source": counts.name, "file": result.file, "reason": reason})
            counts.lost_bytes += result.file_bytes
            entry |= {"bytes": result.file_bytes} if result.file_bytes else {}
        if reason in FILE_DAMAGE or reason in LOST_RECORDS:
            counts.note_place(reason, _place(result, reason))
            counts.count_hints(reason, result.hints)
            entry |= {"detail": result.detail} if result.detail else {}
        self._set_aside.write(json.dumps(entry, ensure_ascii=False) + "\n")


def _place(result: RecordResult, reason: str) -> str:
    """File and line, and for bytes that are no text also which."""
    place = result.file if reason in FILE_DAMAGE else f"{result.file}:{result.line}"
    return f"{place} {result.detail}" if reason in ENCODING and result.detail else place
