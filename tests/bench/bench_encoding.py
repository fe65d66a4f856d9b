"""How fast text becomes token shards: the stage's own code on two processes against `tokenizers` on two threads.

    python tests/bench/bench_encoding.py            prints one JSON record per ratio; a minute or two on two cores

The reference is bare `encode_batch_fast` on text in memory, the fastest that `tokenizers` offers. Ours reads compressed
JSON lines, encodes, decodes again to compare, and writes Arrow files to the disk. Both use the same trained vocabulary
on the same two cores, start with empty memories in new processes, and take turns; ids are compared by hash. The text is
that of FOLIO_DATA, or docstrings of the installed packages.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import zstandard

from pipeline.corpus.installed_text import docstrings
from pipeline.corpus.parts import PartWriter, document_line, read_part
from pipeline.execution.worker_pool import InProcess, worker_pool
from pipeline.runtime.progress import Progress
from pipeline.tokens.shard import TokenStream
from pipeline.tokens.shards_stage import ShardSet, write_shards
from pipeline.tokens.tokenizer import TOKENIZER_FILE, load_tokenizer
from pipeline.tokens.tokenizer_stage import byte_pairs

TEXT_BYTES, PART_BYTES = 48_000_000, 4_000_000
VOCABULARY = 8192
ROUNDS = 5
CORES = 2


def main() -> None:
    """Measure and print one JSON record per ratio; above 1 Folio is faster."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        print(json.dumps(CONTENDERS[options.contender](options.folder)))
        return
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text_bytes = prepare(folder)
        turns = [{who: measured(who, folder) for who in CONTENDERS} for _ in range(options.rounds)]
    for record in records(turns, text_bytes):
        print(json.dumps(record), flush=True)


def records(turns: list[dict[str, Any]], text_bytes: int) -> Iterator[dict[str, Any]]:
    """The ratios of medians. The processor's time is what a machine that is busy with other things distorts least."""
    hashes = {turn[who]["ids"] for turn in turns for who in CONTENDERS}
    assert len(hashes) == 1, "the contenders disagree on the ids"
    for name, who, field, target in RATIOS:
        ours, theirs = (statistics.median(turn[one][field] for turn in turns) for one in (who, "reference"))
        rates = {"megabytes_per_second": text_bytes / ours / 1e6, "reference": text_bytes / theirs / 1e6}
        rounded = {key: round(rate, 1) for key, rate in rates.items()}
        yield {"name": name, "value": round(theirs / ours, 2), "unit": "x", "target": target, **rounded}


def measured(contender: str, folder: Path) -> dict[str, Any]:
    """What one contender measured in a new process."""
    command = [sys.executable, "-m", "tests.bench.bench_encoding", "--contender", contender, "--folder", str(folder)]
    environment = os.environ | {"RAYON_NUM_THREADS": str(CORES), "TOKENIZERS_PARALLELISM": "true"}
    result: dict[str, Any] = json.loads(
        subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
    )
    return result


def reference(folder: Path) -> dict[str, Any]:
    """Bare `tokenizers` on two threads: text in memory, ids not even taken out."""
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    tokenizer.encode_special_tokens = True
    texts = texts_of(folder)
    watch = Watch()
    encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return watch.read() | {"ids": digest(np.array(encoding.ids, np.uint16) for encoding in encodings)}


def memory(folder: Path) -> dict[str, Any]:
    """Encoding alone, on one core: text in memory to ids in memory."""
    tokenizer = load_tokenizer(folder)
    texts = texts_of(folder)
    watch = Watch()
    documents = tokenizer.encode_documents(texts)
    return watch.read() | {"ids": digest(documents)}


def shards(folder: Path) -> dict[str, Any]:
    """The code of stage shards on two processes, from compressed parts to Arrow files on the disk."""
    parts = sorted((folder / "parts").iterdir())
    with tempfile.TemporaryDirectory() as name:
        watch = Watch()
        wanted = ShardSet(Path(name), "train", parts, folder, shard_bytes=64_000_000)
        with worker_pool(CORES) as pool, Progress("bench").task("encoding", None, "bytes") as task:
            # Every worker has started before the clock does: each takes one of these units.
            list(pool.in_order(time.sleep, [0.5] * CORES))
            started = time.perf_counter()
            write_shards(wanted, pool, task)
            seconds = time.perf_counter() - started
        stream = TokenStream.open(sorted(Path(name).glob("*.arrow")))
        whole = stream.window(0, len(stream))
        return watch.read() | {"seconds": seconds, "ids": digest([whole[whole != stream.infos[0].end_of_text]])}


class Watch:
    """Seconds since it was made, and processor seconds of this process and of its children that have ended."""

    def __init__(self) -> None:
        self._started, self._spent = time.perf_counter(), self._processor()

    def read(self) -> dict[str, Any]:
        return {"seconds": time.perf_counter() - self._started, "cpu_seconds": self._processor() - self._spent}

    def _processor(self) -> float:
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)


CONTENDERS = {"reference": reference, "shards": shards, "memory": memory}
RATIOS = (
    ("text to shards, two processes / encode_batch_fast, two threads", "shards", "seconds", 4),
    ("the same in processor time, with starting the processes", "shards", "cpu_seconds", None),
    ("text to ids in memory, one process / encode_batch_fast, two threads", "memory", "seconds", None),
    ("the same in processor time", "memory", "cpu_seconds", None),
)


def digest(documents: Any) -> str:
    sha256 = hashlib.sha256()
    for ids in documents:
        sha256.update(np.ascontiguousarray(ids, np.uint16))
    return sha256.hexdigest()


def texts_of(folder: Path) -> list[str]:
    return [document["text"] for part in sorted((folder / "parts").iterdir()) for document in read_part(part)]


def prepare(folder: Path) -> int:
    """Write the parts and a tokenizer that was trained on a sixth of them; returns the bytes of text."""
    (folder / "parts").mkdir()
    writer = PartWriter(folder / "parts", 0)
    text_bytes = held = 0
    for number, text in enumerate(data_texts() if "FOLIO_DATA" in os.environ else installed_texts()):
        line = document_line({"id": str(number), "source": "bench", "text": text})
        writer.add(line)
        text_bytes += len(text.encode())
        held += len(line)
        if held >= PART_BYTES:
            writer.flush()
            held = 0
    writer.flush()
    sample = [text[at : at + 10_000] for text in texts_of(folder) for at in range(0, len(text), 60_000)]
    (folder / TOKENIZER_FILE).write_text(byte_pairs(sample, VOCABULARY))
    return text_bytes


def data_texts() -> Iterator[str]:
    """As much text from every file of FOLIO_DATA/corpus."""
    paths = sorted(Path(os.environ["FOLIO_DATA"], "corpus").glob("*.jsonl.zst"))
    assert paths, "FOLIO_DATA has no corpus/*.jsonl.zst"
    for path in paths:
        left = TEXT_BYTES // len(paths)
        with zstandard.open(path, "rt", encoding="utf-8", newline="\n") as lines:
            for line in lines:
                text = json.loads(line)["text"]
                yield text
                left -= len(text.encode())
                if left < 0:
                    break


def installed_texts() -> Iterator[str]:
    return (str(record.payload) for record in docstrings(InProcess()))


if __name__ == "__main__":
    main()
