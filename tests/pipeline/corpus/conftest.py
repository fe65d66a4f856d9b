"""What the corpus tests share: the data folder and a stage's work."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from pipeline.config.schema import LaunchSection
from pipeline.config.text_sections import CorpusSection, TargetSection
from pipeline.corpus import stage, target_stage
from pipeline.graph.manifest import Manifest
from pipeline.graph.stage_counts import CorpusCounts, TargetCounts
from pipeline.graph.work import Artifact, Work
from pipeline.runtime.progress import Progress

MANIFEST = Manifest(
    stage="target",
    run="test",
    fingerprint="0" * 64,
    config={},
    inputs={},
    files=(),
    counts={},
    seconds=0,
    rank_seconds=0,
    peak_memory_bytes=0,
    finished="",
    versions={},
    git_commit="",
)
VALIDATION = " ".join(f"word{number}" for number in range(100))


@pytest.fixture
def data() -> Path:
    """The folder in FOLIO_DATA."""
    folder = os.environ.get("FOLIO_DATA")
    if not folder:
        pytest.skip("FOLIO_DATA is not set: this test reads the data folder")
    return Path(folder)


@pytest.fixture
def run_target(tmp_path: Path) -> Callable[[TargetSection], tuple[Path, TargetCounts]]:
    """Runs stage target; gives its folder and counts."""

    def run(section: TargetSection) -> tuple[Path, TargetCounts]:
        folder = tmp_path / "target"
        folder.mkdir(exist_ok=True)
        return folder, target_stage.make_target(
            Work("target", {"target": section}, {}, folder, LaunchSection(), 1, Progress("target"))
        )

    return run


@pytest.fixture
def run_corpus(tmp_path: Path) -> Callable[..., tuple[Path, CorpusCounts]]:
    """Runs stage corpus against VALIDATION, or another text; gives its folder and counts."""

    def run(
        section: CorpusSection, *, folder: str = "corpus", workers: int = 1, validation: str = VALIDATION
    ) -> tuple[Path, CorpusCounts]:
        (tmp_path / "target").mkdir(exist_ok=True)
        (tmp_path / "target" / "validation.txt").write_text(validation)
        (tmp_path / folder).mkdir(exist_ok=True)
        inputs = {"target": Artifact("target", tmp_path / "target", MANIFEST)}
        work = Work(
            "corpus", {"corpus": section}, inputs, tmp_path / folder, LaunchSection(), workers, Progress("corpus")
        )
        return tmp_path / folder, stage.build_corpus(work)

    return run


@pytest.fixture
def write_lines() -> Callable[[Path, list[str]], Path]:
    """Writes texts as JSON lines, compressed if the name ends in .zst."""

    def write(path: Path, texts: list[str]) -> Path:
        lines = "".join(json.dumps({"id": f"{path.name}/{n}", "text": text}) + "\n" for n, text in enumerate(texts))
        content = lines.encode()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(zstandard.ZstdCompressor().compress(content) if path.name.endswith(".zst") else content)
        return path

    return write
