"""Takes the outcomes of one source in order: keeps each new text once, splits by hash, sets the rest aside."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pipeline.corpus.cleaning import RecordResult
from pipeline.corpus.parts import PartWriter, remove_parts
from pipeline.corpus.source_counts import SourceCounts
from pipeline.runtime.progress import Progress

SPLITS = ("train", "validation")
FILE_DAMAGE = {
    "empty_file": "has no bytes",
    "truncated_file": "ends early",
    "corrupt_file": "is corrupt",
    "missing_column": "has not the column",
}


def is_validation(digest: bytes, share: float, seed: int) -> bool:
    """Whether a document belongs to the validation split: a matter of its text and the seed alone."""
    keyed = hashlib.blake2b(digest, digest_size=8, key=str(seed).encode()).digest()
    return int.from_bytes(keyed, "big") < share * 2**64


class SourceWriter:
    """Writes the parts of one source below `folder`, and what was set aside to `set_aside`.

    `seen` holds the digest of every text kept so far, over all sources: about 100 bytes of memory a document.
    """

    def __init__(
        self,
        folder: Path,
        index: int,
        ledger: SourceCounts,
        set_aside: Path,
        *,
        seen: set[bytes],
        max_bytes: float,
        validation: float,
        seed: int,
        progress: Progress,
    ) -> None:
        self.ledger, self.seen, self.max_bytes = ledger, seen, max_bytes
        self.validation, self.seed, self.progress = validation, seed, progress
        for split in SPLITS:
            remove_parts(folder, split, index)
        self.parts = {split: PartWriter(folder / split, index) for split in SPLITS}
        self._files: set[str] = set()
        self._set_aside = set_aside.open("w", encoding="utf-8")

    def __enter__(self) -> SourceWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._set_aside.close()

    def take(self, outcome: RecordResult) -> bool:
        """Keep or set aside; False, and nothing counted, at the document that would cross `max_bytes`."""
        self._files.add(outcome.file)
        reason = outcome.reason or ("duplicate" if outcome.digest in self.seen else "")
        if reason:
            self._reject(outcome, reason)
        elif self.ledger.bytes + outcome.text_bytes > self.max_bytes:
            return False
        else:
            self._keep(outcome)
        return True

    def finish(self) -> None:
        """Write what is still held."""
        self.ledger.files = len(self._files)
        for writer in self.parts.values():
            writer.flush()

    def _keep(self, outcome: RecordResult) -> None:
        self.seen.add(outcome.digest)
        validation = is_validation(outcome.digest, self.validation, self.seed)
        self.parts["validation" if validation else "train"].add(outcome.document)
        self.ledger.kept(outcome.text_bytes, validation=validation)

    def _reject(self, outcome: RecordResult, reason: str) -> None:
        self.ledger.rejected(reason)
        if reason == "contaminated":
            self.ledger.contaminated_bytes += outcome.text_bytes
        if reason in FILE_DAMAGE:
            self.ledger.damaged_files.append({"source": self.ledger.name, "file": outcome.file, "reason": reason})
            self.progress.say(
                f"DAMAGED: {outcome.file} of {self.ledger.name} {FILE_DAMAGE[reason]} ({outcome.detail}); "
                f"{outcome.line - 1:,} records before that were read, what follows is lost."
            )
        entry = {"source": self.ledger.name, "file": outcome.file, "line": outcome.line, "reason": reason}
        self._set_aside.write(json.dumps(entry, ensure_ascii=False) + "\n")
