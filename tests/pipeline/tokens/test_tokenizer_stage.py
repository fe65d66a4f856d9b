from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers

from pipeline.config.text_sections import MIN_BPE_VOCABULARY, TokenizerSection
from pipeline.corpus.parts import PartWriter, document_line
from pipeline.errors import DataError
from pipeline.graph.stage_counts import CorpusCounts
from pipeline.graph.work import Artifact, Work
from pipeline.tokens import tokenizer_stage
from pipeline.tokens.tokenizer import END_OF_TEXT, TOKENIZER_FILE, load_tokenizer

MakeWork = Callable[..., Work]


def test_stage_writes_a_file_that_tokenizers_reads(target: Artifact, corpus: Artifact, work_of: MakeWork) -> None:
    work = work_of("tokenizer", target, corpus, section=TokenizerSection(vocab_size=400))
    counts = tokenizer_stage.make_tokenizer(work)
    file = work.folder / TOKENIZER_FILE
    reread = tokenizers.Tokenizer.from_file(str(file))
    assert counts.kind == "bpe"
    assert counts.vocab_size == reread.get_vocab_size() == 400
    assert counts.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert [reread.id_to_token(number) for number in (0, 1, 256)] == [END_OF_TEXT, "!", "Ń"]
    assert counts.bytes_per_token.keys() == {"books", "plays", "target"}
    assert all(1 < ratio < 20 for ratio in counts.bytes_per_token.values())
    assert list(work.folder.iterdir()) == [file]


def test_sample_is_everything_when_the_budget_is_large(target: Artifact, corpus: Artifact, work_of: MakeWork) -> None:
    counts = tokenizer_stage.make_tokenizer(
        work_of("tokenizer", target, corpus, section=TokenizerSection(vocab_size=300))
    )
    assert counts.sample_bytes == corpus.counts_as(CorpusCounts).bytes_kept + 20_000


def test_number_of_workers_does_not_change_the_file(target: Artifact, corpus: Artifact, work_of: MakeWork) -> None:
    section = TokenizerSection(vocab_size=400, sample_bytes=20_000)
    hashes = {
        tokenizer_stage.make_tokenizer(work_of("tokenizer", target, corpus, section=section, workers=workers)).sha256
        for workers in (1, 2)
    }
    assert len(hashes) == 1


PROGRAM = """
import hashlib
from pipeline.tokens import tokenizer_stage
text = open(tokenizer_stage.__file__).read()
lines = [text[at : at + 50] for at in range(len(text) - 50)]
print(hashlib.sha256(tokenizer_stage.byte_pairs(lines, 600).encode()).hexdigest())
"""


def test_number_of_threads_does_not_change_the_file() -> None:
    hashes = []
    for threads in ("1", "4", "4"):
        environment = os.environ | {"RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads}
        command = [sys.executable, "-c", PROGRAM]
        hashes.append(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)
    assert hashes[0] == hashes[1] == hashes[2]


def test_bpe_never_looks_at_selection_or_validation(target: Artifact, work_of: MakeWork) -> None:
    section = TokenizerSection(vocab_size=350)
    before = tokenizer_stage.make_tokenizer(work_of("tokenizer", target, section=section)).sha256
    (target.folder / "validation.txt").unlink()
    refit = target.folder / "refit.txt"
    refit.write_text(refit.read_text()[:20_000] + "another selection text")
    only_train = Artifact("target", target.folder, target.manifest.model_copy(update={"files": ()}))
    assert tokenizer_stage.make_tokenizer(work_of("tokenizer", only_train, section=section)).sha256 == before


def test_character_vocabulary_is_that_of_the_whole_target(target: Artifact, work_of: MakeWork) -> None:
    work = work_of("tokenizer", target, section=TokenizerSection(kind="char"))
    counts = tokenizer_stage.make_tokenizer(work)
    text = "".join((target.folder / name).read_text() for name in ("refit.txt", "validation.txt"))
    assert counts.vocab_size == len(set(text)) + 2
    assert counts.bytes_per_token == {"target": 1.0}
    tokenizer = load_tokenizer(work.folder)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode("".join(sorted(set(text)))).tolist() == list(range(len(set(text))))


def test_sample_follows_the_budget_and_is_not_lumpy(tmp_path: Path) -> None:
    """One document of a thousand stretches: a fifth is drawn, from all over it; another seed draws others."""
    stretch = "x" * tokenizer_stage.STRETCH_CHARACTERS + "\n"
    parts = PartWriter(tmp_path, 0)
    parts.add(document_line({"id": "d", "source": "books", "text": "".join(f"{n:04}{stretch}" for n in range(1000))}))
    parts.flush()
    (part,) = tmp_path.iterdir()
    first, second = (tokenizer_stage.drawn(part, share=0.2, seed=seed) for seed in (0, 1))
    assert first == tokenizer_stage.drawn(part, share=0.2, seed=0)
    assert (first.source, first.part_bytes) == ("books", 1000 * (len(stretch) + 4))
    numbers = [int(text[:4]) for text in first.stretches]
    assert 160 < len(numbers) < 240
    assert all(any(at <= number < at + 100 for number in numbers) for at in range(0, 1000, 100))
    assert first.stretches != second.stretches


def test_stretches_are_whole_lines_and_lose_nothing() -> None:
    text = "".join("word " * (n % 40) + "\n" for n in range(2000)) + "z" * 30_000
    cut = list(tokenizer_stage.stretches(text))
    assert "".join(cut) == text
    assert all(stretch.endswith("\n") for stretch in cut[:-5])
    assert max(map(len, cut)) <= 2 * tokenizer_stage.STRETCH_CHARACTERS


def test_the_smallest_vocabulary_holds_every_byte_and_end_of_text(target: Artifact, work_of: MakeWork) -> None:
    work = work_of("tokenizer", target, section=TokenizerSection(vocab_size=MIN_BPE_VOCABULARY))
    assert tokenizer_stage.make_tokenizer(work).vocab_size == MIN_BPE_VOCABULARY == 257


def test_damaged_input_is_refused(target: Artifact, work_of: MakeWork) -> None:
    (target.folder / "refit.txt").write_text("something else")
    with pytest.raises(DataError, match=r"refit\.txt has"):
        tokenizer_stage.make_tokenizer(work_of("tokenizer", target, section=TokenizerSection()))
