"""Hub datasets against a hub on 127.0.0.1, in a new process: huggingface_hub reads HF_ENDPOINT when it is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.hub import HubDataset
from pipeline.errors import EnvironmentFault

COMMIT = "c0ffee" * 6 + "beef"
GOOD = [f'{{"id": "d{number}", "text": "row {number}"}}'.encode() for number in range(200)]
NESTED = [f'{{"id": "d{number}", "data": {{"text": "row {number}"}}}}'.encode() for number in range(20)]
FILES = {"me/good": b"\n".join(GOOD), "me/broken": b"\n".join([*GOOD, b'{"text": '])}
FILES |= {"me/nested": b"\n".join(NESTED)}
SCRIPT = """
import json, sys
from pipeline.corpus.hub import HubDataset
from pipeline.errors import FolioError

def answer(name, subset, split, field):
    try:
        dataset = HubDataset.resolve(name, subset, split, "main")
        records = list(dataset.records(field))
        return {"license": dataset.license, "revision": dataset.revision, "ids": [record.id for record in records],
                "texts": [record.payload for record in records]}
    except FolioError as error:
        return {"refusal": str(error), "exit_code": error.exit_code}

print(json.dumps([answer(*query) for query in json.loads(sys.argv[1])]))
"""
QUERIES = {
    "good": ["me/good", None, "train", "text"],
    "none": ["me/none", None, "train", "text"],
    "broken": ["me/broken", None, "train", "text"],
    "subset": ["me/good", "sub", "train", "text"],
    "split": ["me/good", None, "test", "text"],
    "field": ["me/good", None, "train", "body"],
    "nested": ["me/nested", None, "train", "data.text"],
    "outer": ["me/nested", None, "train", "text"],
}
Answers = dict[str, dict[str, Any]]


def ask(endpoint: str, home: Path, queries: dict[str, list[str | None]]) -> Answers:
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-c", SCRIPT, json.dumps(list(queries.values()))]
    output = subprocess.run(command, env=environment, check=True, capture_output=True).stdout
    return dict(zip(queries, json.loads(output), strict=True))


class Hub(BaseHTTPRequestHandler):
    """Each dataset of FILES as one file data.jsonl; the first request for it is answered 503."""

    protocol_version = "HTTP/1.1"
    failures_left = 1

    def do_GET(self) -> None:
        path, _, _ = self.path.partition("?")
        name = next((name for name in FILES if f"/{name}/" in path), "")
        entry = {"type": "file", "path": "data.jsonl", "size": len(FILES.get(name, b"")), "oid": "b" * 40}
        if name and path.endswith("/data.jsonl"):
            self.send_file(FILES[name])
        elif name and "/tree/" in path:
            self.send(json.dumps([entry]).encode())
        elif name and path.startswith("/api/"):
            card = {"license": "cc0-1.0"}
            self.send(json.dumps({"id": name, "sha": COMMIT, "siblings": [], "tags": [], "cardData": card}).encode())
        else:
            self.send(b"{}", 404, {"X-Error-Code": "EntryNotFound" if "/resolve/" in path else "RepoNotFound"})

    def do_HEAD(self) -> None:
        self.do_GET()

    def send_file(self, content: bytes) -> None:
        if Hub.failures_left:
            Hub.failures_left -= 1
            self.send(b"", 503)
            return
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        body = content[int(first) : int(last) + 1 if last else None]
        span = f"bytes {first}-{int(first) + len(body) - 1}/{len(content)}"
        self.send(body, 206, {"Content-Range": span, "Accept-Ranges": "bytes", "ETag": '"e"', "X-Repo-Commit": COMMIT})

    def send(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep stderr clean."""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answers]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield ask(f"http://127.0.0.1:{server.server_port}", tmp_path_factory.mktemp("hub"), QUERIES)
    server.shutdown()
    thread.join()
    server.server_close()


def test_rows_come_in_order_in_spite_of_a_failure(answers: Answers) -> None:
    assert Hub.failures_left == 0
    assert answers["good"]["ids"] == [f"d{number}" for number in range(200)]
    assert answers["good"]["texts"] == [f"row {number}" for number in range(200)]


def test_dotted_field_leads_into_the_row(answers: Answers) -> None:
    assert answers["nested"]["texts"] == [f"row {number}" for number in range(20)]
    assert answers["nested"]["ids"][0] == "d0"


def test_branch_is_pinned_to_its_commit_and_the_license_noted(answers: Answers) -> None:
    assert (answers["good"]["revision"], answers["good"]["license"]) == (COMMIT, "cc0-1.0")


@pytest.mark.parametrize(
    ("query", "exit_code", "refusal"),
    [
        ("none", 2, "Hub dataset me/none: 404 Client Error"),
        ("subset", 2, "BuilderConfig 'sub' not found. Available: ['default']. Check subset and split."),
        ("split", 2, "Bad split: test. Available splits: ['train']. Check subset and split."),
        ("field", 2, "Hub dataset me/good has no column 'body' among id, text. Set field: text."),
        ("outer", 2, "Hub dataset me/nested has no column 'text' among id, data.text. Set field: data.text."),
        ("broken", 3, "Hub dataset me/broken holds a row that `datasets` cannot read"),
    ],
)
def test_refusal_names_what_is_wrong(answers: Answers, query: str, exit_code: int, refusal: str) -> None:
    assert answers[query]["exit_code"] == exit_code
    assert refusal in answers[query]["refusal"]


def test_dead_hub_is_refused_as_environment(tmp_path: Path) -> None:
    answer = ask("http://127.0.0.1:9", tmp_path, {"dead": QUERIES["good"]})["dead"]
    assert answer["exit_code"] == 5
    assert "Check the network (and HF_ENDPOINT)" in answer["refusal"]


def test_without_a_home_the_hub_needs_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", "~/.cache/huggingface")
    with pytest.raises(EnvironmentFault, match=r"has no home folder, .* Set HF_HOME to a folder"):
        HubDataset.resolve("me/good", None, "train", "main")
