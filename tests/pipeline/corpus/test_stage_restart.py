"""Stage corpus, stopped in the middle and started again: by an exception, and by SIGKILL with workers running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.text_sections import CorpusSection, SourceSection
from pipeline.corpus import stage
from pipeline.corpus.source_files import SourceFiles
from pipeline.graph.stage_counts import CorpusCounts

Run = Callable[..., tuple[Path, CorpusCounts]]
Writer = Callable[[Path, list[str]], Path]


@pytest.fixture
def two_sources(tmp_path: Path, write_lines: Writer) -> CorpusSection:
    """Source b ends with a duplicate of source a's first text."""
    texts = [f"Document {n}. " + f"Some words of text {n} follow. " * 20 for n in range(110)]
    for number in range(4):
        write_lines(tmp_path / "data" / f"a{number}.jsonl.zst", texts[20 * number : 20 * (number + 1)])
    write_lines(tmp_path / "data" / "b.jsonl", [*texts[80:], "short", texts[0]])
    a, b = (SourceSection(name=name, path=str(tmp_path / "data" / f"{name}*.jsonl*")) for name in "ab")
    return CorpusSection(sources=(a, b), validation=0.2)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_interrupted_stage_ends_with_the_same_files(
    two_sources: CorpusSection, run_corpus: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the second source, which holds a duplicate of the first: its text must still count as seen."""
    whole, counts = run_corpus(two_sources, folder="whole")
    folder = whole.with_name("again")

    with monkeypatch.context() as broken:
        broken.setattr(stage.SourceWriter, "finish", _interrupt_source_b(stage.SourceWriter.finish))
        with pytest.raises(KeyboardInterrupt):
            run_corpus(two_sources, folder="again")
    assert (folder / "drafts" / "00.json").exists()
    (folder / "train" / "01-00009.jsonl.zst").write_bytes(b"left over")
    with monkeypatch.context() as strict:
        strict.setattr(stage.SourceWriter, "__init__", _refuse_source_a(stage.SourceWriter.__init__))
        _, again = run_corpus(two_sources, folder="again")
    assert content(folder) == content(whole)
    assert again == counts


def _interrupt_source_b(finish: Callable[[Any], None]) -> Callable[[Any], None]:
    def interrupted(writer: Any) -> None:
        finish(writer)
        if writer.counts.name == "b":
            raise KeyboardInterrupt

    return interrupted


def _refuse_source_a(construct: Callable[..., None]) -> Callable[..., None]:
    def checked(writer: Any, files: SourceFiles, *rest: Any) -> None:
        assert files.index != 0, "a finished source is written again"
        construct(writer, files, *rest)

    return checked


KILLED = """
import sys, time
sys.path[:0] = {path!r}
from pathlib import Path
from pipeline.config.schema import CorpusSection, LaunchSection
from pipeline.corpus.parts import PartWriter
from pipeline.corpus.stage import build_corpus
from pipeline.runtime.progress import Progress
from pipeline.graph.work import Artifact, Work

if __name__ == "__main__":
    flush = PartWriter.flush
    def slow(writer):
        flush(writer)
        print("part", flush=True)
        time.sleep(60 if writer.index else 0)
    PartWriter.flush = slow
    section = CorpusSection.model_validate_json(Path({config!r}).read_text())
    inputs = {{"target": Artifact("target", Path({target!r}), None)}}
    work = Work("corpus", {{"corpus": section}}, inputs, Path({folder!r}), LaunchSection(), 2, Progress("corpus"))
    build_corpus(work)
"""


def test_killed_stage_leaves_no_worker_and_ends_with_the_same_files(
    two_sources: CorpusSection, run_corpus: Run, tmp_path: Path
) -> None:
    whole, counts = run_corpus(two_sources, folder="whole")
    (tmp_path / "killed").mkdir()
    (tmp_path / "config.json").write_text(two_sources.model_dump_json())
    values = {"path": [path for path in sys.path if path], "config": str(tmp_path / "config.json")}
    values |= {"target": str(tmp_path / "target"), "folder": str(tmp_path / "killed")}
    script = tmp_path / "run.py"
    script.write_text(KILLED.format(**values))
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, start_new_session=True) as stage:
        assert stage.stdout is not None
        for _ in range(3):  # both parts of the first source, one of the second
            assert stage.stdout.readline() == b"part\n"
        stage.send_signal(signal.SIGKILL)
    assert _group_ends(stage.pid)
    _, again = run_corpus(two_sources, folder="killed", workers=2)
    assert content(tmp_path / "killed") == content(whole)
    assert again == counts


def _group_ends(group: int, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False
