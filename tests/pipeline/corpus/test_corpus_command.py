"""`folio corpus` as somebody with their own text uses it: what it prints, and that what it proposes works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TARGET = "\n".join(f"Line {number} of the target, which nobody else has written." for number in range(200))


def corpus(folder: Path, source: str, settings: str = "{}") -> subprocess.CompletedProcess[str]:
    """`folio corpus` over one source, with a target of its own."""
    (folder / "target.txt").write_text(TARGET)
    config = f"target: {{path: {folder}/target.txt}}\ncorpus:\n  sources: [{source}]\n"
    (folder / "mine.yaml").write_text(config)
    options = [part for key, value in json.loads(settings).items() for part in ("--set", f"{key}={value}")]
    assert folio(folder, "target", *options).returncode == 0
    return folio(folder, "corpus", *options)


def folio(folder: Path, stage: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("folio")), stage, str(folder / "mine.yaml"), *options]
    environment = {**os.environ, "FOLIO_STORE": str(folder / "store"), "XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def counts(folder: Path) -> dict[str, object]:
    (manifest,) = folder.glob("store/corpus-*/manifest.json")
    found: dict[str, object] = json.loads(manifest.read_text())["counts"]
    return found


@pytest.mark.data
def test_a_corpus_of_one_book_has_a_held_out_part(data: Path, tmp_path: Path) -> None:
    done = corpus(tmp_path, f"{{name: book, path: {data}/odd/one-book.txt}}")
    assert done.returncode == 0, done.stderr
    assert "kept 1 of 1 documents in 1 file" in done.stderr
    assert "held out: 1 passage, " in done.stderr
    assert counts(tmp_path)["validation_documents"] == 1


@pytest.mark.data
def test_texts_from_windows_are_refused_in_one_line_and_read_with_the_encoding_it_names(
    data: Path, tmp_path: Path
) -> None:
    path = f"{data}/odd/windows-texts/*.txt"
    refused = corpus(tmp_path, f"{{name: texts, path: '{path}'}}")
    assert refused.returncode == 3
    last = refused.stderr.strip().splitlines()[-1]
    assert "Source texts lost 3 of 12 documents, more than corpus.max_lost 5%: 3 invalid_utf8" in last
    assert "Set encoding: cp1252 in source texts, or accept the loss with corpus.max_lost: 25%." in last
    cured = corpus(tmp_path, f"{{name: texts, path: '{path}', encoding: cp1252}}")
    assert cured.returncode == 0, cured.stderr
    assert "kept 12 of 12 documents in 12 files" in cured.stderr


@pytest.mark.data
def test_an_accepted_loss_goes_on_where_it_was_refused(data: Path, tmp_path: Path) -> None:
    source = f"{{name: texts, path: '{data}/odd/windows-texts/*.txt'}}"
    assert corpus(tmp_path, source).returncode == 3
    (before,) = tmp_path.glob("store/corpus-*")
    accepted = corpus(tmp_path, source, '{"corpus.max_lost": "25%"}')
    assert accepted.returncode == 0, accepted.stderr
    assert "kept 9 of 12 documents in 12 files; LOST 3 documents: 3 invalid_utf8" in accepted.stderr
    assert list(tmp_path.glob("store/corpus-*")) == [before]
