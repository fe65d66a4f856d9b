"""The held-out part of the corpus: documents drawn by hash where there are enough, and passages where there are not.

Documents are drawn while the sources are read (`splits.SplitRule`). Only at the end is it known whether that gave
enough to measure a loss on; where it did not, the parts are written once more, with passages at the end of documents
held out, or more of the short ones. Why: docs/decisions/held-out-passages.md.

    drafts/held_out/        the parts as they shall be
    drafts/held_out.json    written once they are complete; from then on they only have to take the others' place
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.config.text_sections import CorpusSection
from pipeline.corpus.parts import Document, PartWriter, document_line
from pipeline.corpus.passages import GAP_CHARACTERS, cut
from pipeline.corpus.seen_texts import SeenTexts, text_digest
from pipeline.corpus.source_counts import SourceCounts
from pipeline.corpus.source_files import DRAFTS, SourceFiles
from pipeline.corpus.splits import CORPUS_SPLITS, SplitRule
from pipeline.errors import DataError
from pipeline.graph.stage_counts import HeldOut
from pipeline.runtime.files import write_text
from pipeline.runtime.formatting import counted, readable_bytes

ENOUGH_DOCUMENTS = 4  # a mean over fewer says more about them than about the model
ENOUGH_BYTES, ENOUGH_SHARE = 16_000, 0.04  # the smaller one: several windows of any usual context
WANTED_BYTES = 256_000  # what the default of pretrain.evaluate_tokens reads, at four bytes a token
LARGEST_SHARE = 0.1  # of the text, unless corpus.validation asks for more
CHARACTERS_A_WORD = 10
SHORTEST_PASSAGE = 400  # characters
SPARING_BYTES = 2_000  # a shorter document spares no passage
ID_SUFFIX = "#held-out"


@dataclass(frozen=True)
class _Size:
    """A document as far as the plan needs it; `draw` is its place in the order of the draw."""

    digest: bytes
    bytes: int
    draw: int


def hold_out(
    corpus: Path, counts: Sequence[SourceCounts], section: CorpusSection
) -> tuple[list[SourceCounts], HeldOut]:
    """Make sure that the parts hold enough validation text; returns the counts as they are then.

    Raises DataError if nothing can be held out.
    """
    if _receipt(corpus).exists():
        return _take_places(corpus)
    if not section.validation:
        return list(counts), HeldOut(by="nothing", documents=0, bytes=0)
    if _is_enough(counts):
        documents, size = (sum(getattr(one, f"validation_{what}") for one in counts) for what in ("documents", "bytes"))
        return list(counts), HeldOut(by="documents", documents=documents, bytes=size)
    gap = _gap(section)
    new, held_out = _write_again(corpus, counts, _plan(corpus, len(counts), section), gap)
    _refuse_empty(new, held_out, gap)
    values = {"counts": [dataclasses.asdict(one) for one in new], "held_out": held_out.model_dump()}
    write_text(_receipt(corpus), json.dumps(values))
    return _take_places(corpus)


def start_over_if_interrupted(corpus: Path, num_sources: int) -> None:
    """Forget finished sources whose parts were already split again, if not all of them are there any more."""
    # A stage that was killed while it deleted its drafts. Its parts have lost their gaps, and must not lose them twice.
    every = [SourceFiles(corpus, index).counts for index in range(num_sources)]
    if _receipt(corpus).exists() and not all(path.exists() for path in every):
        for path in every:
            path.unlink(missing_ok=True)
        _receipt(corpus).unlink()
        shutil.rmtree(_folder(corpus), ignore_errors=True)


def line_about(held_out: HeldOut, counts: Sequence[SourceCounts]) -> str:
    """What an operator should know of how the held-out part was made."""
    if held_out.by == "nothing":
        return "corpus.validation is 0: nothing is held out, and pretraining is not evaluated on its own text"
    share = held_out.bytes / max(sum(source.bytes for source in counts), 1)
    line = f"held out: {counted(held_out.documents, held_out.by.removesuffix('s'))}, {readable_bytes(held_out.bytes)}"
    if held_out.by == "passages":
        documents = counted(sum(source.documents for source in counts), "document")
        return f"{line} ({share:.0%}), at the end of documents: {documents} cannot spare enough whole ones"
    return f"{line} ({share:.1%})"


def _is_enough(counts: Sequence[SourceCounts]) -> bool:
    documents, held_out = (sum(one.documents for one in counts), sum(one.validation_documents for one in counts))
    least = min(ENOUGH_BYTES, ENOUGH_SHARE * sum(one.bytes for one in counts))
    return ENOUGH_DOCUMENTS <= held_out < documents and sum(one.validation_bytes for one in counts) >= least


def _plan(corpus: Path, num_sources: int, section: CorpusSection) -> dict[bytes, float]:
    """Which share of which document is held out, by its digest; 1 is all of it. Raises DataError if none can be."""
    rule = SplitRule(section.validation, section.seed)
    sizes = [_size(document, rule) for _, document in _documents(corpus, num_sources)]
    total = sum(size.bytes for size in sizes)
    wanted = max(section.validation * total, min(WANTED_BYTES, LARGEST_SHARE * total))
    # Passages come from the documents in the order of the draw too, so that any number of them is a random sample.
    sizes.sort(key=lambda size: size.draw)
    sparing = [size for size in sizes if size.bytes >= _sparing_bytes(_gap(section))]
    sparing_bytes = sum(size.bytes for size in sparing)
    if sparing_bytes >= total / 2:
        share = min(wanted / sparing_bytes, 0.9)
        shares = {size.digest: max(share, SHORTEST_PASSAGE / size.bytes) for size in sparing}
        return _until(wanted, sparing, shares)
    # The last one is left to train on.
    return _until(wanted, sizes[:-1], {size.digest: 1.0 for size in sizes})


def _until(wanted: float, sizes: Sequence[_Size], shares: Mapping[bytes, float]) -> dict[bytes, float]:
    """The shares of the first documents that together give what is wanted."""
    chosen: dict[bytes, float] = {}
    given = 0.0
    for size in sizes:
        if given >= wanted - 1:  # shares of many documents add up with rounding errors
            break
        chosen[size.digest] = shares[size.digest]
        given += shares[size.digest] * size.bytes
    return chosen


def _size(document: Document, rule: SplitRule) -> _Size:
    text = document["text"].encode()
    digest = text_digest(text)
    return _Size(digest, len(text), rule.draw(digest))


def _documents(corpus: Path, num_sources: int) -> Iterator[tuple[int, Document]]:
    for index in range(num_sources):
        for document in SourceFiles(corpus, index).documents():
            yield index, document


def _gap(section: CorpusSection) -> int:
    """Characters between the training text and the passage of a document."""
    words = section.decontaminate.ngram_words if section.decontaminate else 0
    return max(GAP_CHARACTERS, CHARACTERS_A_WORD * words)


def _sparing_bytes(gap: int) -> int:
    """The size from which a document spares a passage: most of it is then still trained on."""
    return max(SPARING_BYTES, 5 * gap)


def _write_again(
    corpus: Path, counts: Sequence[SourceCounts], plan: Mapping[bytes, float], gap: int
) -> tuple[list[SourceCounts], HeldOut]:
    """Write all parts by the plan into the drafts; returns the counts as they will be."""
    shutil.rmtree(_folder(corpus), ignore_errors=True)
    seen = SeenTexts()
    for _, document in _documents(corpus, len(counts)):
        seen.add_text(document["text"])
    writers = [
        {split: PartWriter(_folder(corpus) / split, index) for split in CORPUS_SPLITS} for index in range(len(counts))
    ]
    new = [dataclasses.replace(one, bytes=0, validation_documents=0, validation_bytes=0) for one in counts]
    gap_bytes = 0
    for index, document in _documents(corpus, len(counts)):
        texts = _texts(document, plan, gap, seen)
        for split, text in texts.items():
            _add(writers[index][split], document, text, split, new[index])
        gap_bytes += len(document["text"].encode()) - sum(len(text.encode()) for text in texts.values())
    for by_split in writers:
        for writer in by_split.values():
            writer.flush()
    documents, size = sum(one.validation_documents for one in new), sum(one.validation_bytes for one in new)
    by: Literal["documents", "passages"] = "documents" if set(plan.values()) == {1.0} else "passages"
    return new, HeldOut(by=by, documents=documents, bytes=size, gap_bytes=gap_bytes)


def _refuse_empty(counts: Sequence[SourceCounts], held_out: HeldOut, gap: int) -> None:
    if not held_out.documents:
        documents, size = sum(one.documents for one in counts), sum(one.bytes for one in counts)
        raise DataError(
            f"The corpus has {counted(documents, 'document')} of {size:,} bytes: nothing can be held out of it, "
            f"because a passage needs a document of {_sparing_bytes(gap):,} bytes.",
            remedy="Add text, or set corpus.validation: 0 to pretrain without a held-out part.",
        )


def _texts(document: Document, plan: Mapping[bytes, float], gap: int, seen: SeenTexts) -> dict[str, str]:
    """The text of a document in each split."""
    text = document["text"]
    share = plan.get(text_digest(text.encode()), 0.0)
    if share in (0.0, 1.0):
        return {"validation" if share else "train": text}
    beginning, passage = cut(text, share, gap)
    if not beginning or not passage:
        return {"train": text}
    # Files may end alike, with a licence: such a passage is evaluated on once, and nothing is trained on it.
    digest = text_digest(passage.encode())
    if digest in seen:
        return {"train": beginning}
    seen.add(digest)
    return {"train": beginning, "validation": passage}


def _add(writer: PartWriter, document: Document, text: str, split: str, counts: SourceCounts) -> None:
    name = document["id"] if text == document["text"] or split == "train" else f"{document['id']}{ID_SUFFIX}"
    writer.add(document_line({"id": name, "source": document["source"], "text": text}))
    size = len(text.encode())
    counts.bytes += size
    if split == "validation":
        counts.validation_documents += 1
        counts.validation_bytes += size


def _take_places(corpus: Path) -> tuple[list[SourceCounts], HeldOut]:
    """Put the parts of the drafts in the place of the others; done in the middle, it is done again."""
    for split in CORPUS_SPLITS:
        if (_folder(corpus) / split).exists():
            shutil.rmtree(corpus / split, ignore_errors=True)
            (_folder(corpus) / split).replace(corpus / split)
    values = json.loads(_receipt(corpus).read_bytes())
    return [SourceCounts(**one) for one in values["counts"]], HeldOut.model_validate(values["held_out"])


def _folder(corpus: Path) -> Path:
    return corpus / DRAFTS / "held_out"


def _receipt(corpus: Path) -> Path:
    return corpus / DRAFTS / "held_out.json"
