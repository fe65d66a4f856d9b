"""What the corpus tests share: the data folder, a stage's work, and a web server that fails on request."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


@dataclass
class Site:
    """Files that are served, and the faults of the next requests: a status code, "drop" or "lie"."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[int | str] = field(default_factory=list)
    ranges: bool = True
    requests: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)


@pytest.fixture
def site() -> Iterator[Site]:
    """A web server on 127.0.0.1."""
    served = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, served)

        def log_message(self, *_: object) -> None:
            """Keep stderr clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


def answer(handler: BaseHTTPRequestHandler, site: Site) -> None:
    wanted = handler.headers.get("Range", "")
    site.requests.append(wanted or "whole")
    content = site.files.get(handler.path.partition("?")[0])
    fault = site.faults.pop(0) if site.faults else 404 if content is None else 200
    if isinstance(fault, int) and fault != 200:
        handler.send_error(fault)
        return
    assert content is not None, "a fault other than a status needs a file"
    start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and site.ranges else 0
    body = content[start:]
    handler.send_response(206 if start else 200)
    handler.send_header("Content-Length", str(len(body) + (100 if fault == "lie" else 0)))
    for name, value in site.headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2] if fault == "drop" else body)
    handler.close_connection = True
