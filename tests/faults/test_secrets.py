"""Canaries: secrets in addresses reach the server that asks for them, and nothing that Folio says, writes or starts."""

import gzip
import json
import os
import subprocess
import sys
import threading
import time
from base64 import b64decode
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import psutil
import pytest
import zstandard

CANARY = "kanarienvogel"  # in every secret, and in nothing else
PASSWORD, LITERAL, VARIABLE = f"{CANARY}-password", f"{CANARY}-literal", f"{CANARY}-variable"
TEXT = "\n".join(f"Sentence {number} speaks of things that no other one mentions." for number in range(600))
CONFIG = """
name: secretive
target: {{path: target.txt}}
corpus:
  sources:
    - {{url: "http://me:{password}@{host}/a.jsonl?token={literal}"}}
    - {{url: "http://{host}/${{BIRD}}/b-${{BIRD}}.jsonl?token=${{BIRD}}", weight: 2}}
  validation: 20%
  min_characters: 20
tokenizer: {{vocab_size: 300}}
deepspeed: {{comms_logger: {{enabled: false}}}}
"""


class Server(BaseHTTPRequestHandler):
    """Serves a.jsonl to who knows user and token, b.jsonl below a secret folder to who knows its token."""

    def do_GET(self):
        path, _, query = self.path.partition("?")
        user = b64decode((self.headers["Authorization"] or "").removeprefix("Basic ")).decode()
        allowed = {"/a.jsonl": (f"me:{PASSWORD}", LITERAL), f"/{VARIABLE}/b-{VARIABLE}.jsonl": ("", VARIABLE)}
        if path not in allowed:
            self.send_error(404, f"there is no {self.path}")
        elif (user, query.removesuffix("-new")) != (allowed[path][0], f"token={allowed[path][1]}"):
            self.send_error(403, f"{self.path} is not for {user}")
        else:
            name = path[-7:]
            lines = [json.dumps({"text": f"{name}: {line} {line[::-1]}"}) for line in TEXT.splitlines()]
            body = "\n".join(lines).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"one"')
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_):
        """Keep stderr clean."""


@pytest.fixture
def host(serving):
    with serving(Server) as host:
        yield host


@pytest.fixture
def home(tmp_path, host):
    """A folder with the config, its target, and everything else that Folio writes."""
    (tmp_path / "target.txt").write_text(TEXT[:20_000])
    (tmp_path / "secretive.yaml").write_text(CONFIG.format(host=host, password=PASSWORD, literal=LITERAL))
    return tmp_path


def folio(home, *arguments, **environment):
    """What a command said, and the command lines of all processes that it started."""
    folders = {name: str(home / "kept" / name) for name in ("FOLIO_STORE", "XDG_CACHE_HOME", "HF_HOME", "TMPDIR")}
    (home / "kept" / "TMPDIR").mkdir(parents=True, exist_ok=True)
    secrets = {"BIRD": VARIABLE, "HF_TOKEN": f"hf_{CANARY}", "MLFLOW_TRACKING_PASSWORD": PASSWORD}
    process = subprocess.Popen(
        [Path(sys.executable).with_name("folio"), *map(str, arguments)],
        env={**os.environ, **folders, **secrets, "DS_ACCELERATOR": "cpu", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=home,
    )
    started = set()
    watch = threading.Thread(target=note_command_lines, args=(process, started))
    watch.start()
    said = process.communicate(timeout=300)[0]
    watch.join()
    return process.returncode, said, started


def note_command_lines(process, started):
    while process.poll() is None:
        try:
            for child in psutil.Process(process.pid).children(recursive=True):
                started.add(" ".join(child.cmdline()))
        except psutil.Error:
            pass  # it ended between two looks
        time.sleep(0.02)


def files_with_canaries(folder):
    """Names of files that hold a canary, or are called by one, decompressed where they are compressed."""
    found = []
    paths = [path for path in folder.rglob("*") if path.is_file()]
    assert paths
    for path in paths:
        content = path.read_bytes()
        if path.suffix == ".zst":
            content = zstandard.ZstdDecompressor().decompressobj().decompress(content)
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        if CANARY.encode() in content or CANARY in str(path):
            found.append(str(path))
    return found


def test_no_secret_is_said_written_or_handed_to_a_process_on_the_way_to_shards(home):
    code, said, started = folio(home, "run", "secretive.yaml", "--until", "shards", "--set", "launch.workers=2")
    assert code == 0, said
    assert started, "the pool of workers was seen"
    for command in ("plan", "status", "verify"):
        code, more, _ = folio(home, command, "secretive.yaml", "--set", "corpus.min_characters=21")
        assert code in (0, 3), more
        said += more
    assert "stale" in said
    assert CANARY not in said + "".join(started)
    assert files_with_canaries(home / "kept") == []


def test_a_new_token_redoes_nothing(home):
    code, said, _ = folio(home, "run", "secretive.yaml", "--until", "corpus")
    assert code == 0, said
    (home / "secretive.yaml").write_text((home / "secretive.yaml").read_text().replace(LITERAL, f"{LITERAL}-new"))
    code, said, _ = folio(home, "plan", "secretive.yaml", "--json")
    stages = {stage["stage"]: stage["state"] for stage in json.loads(said)["stages"]}
    assert (stages["corpus"], stages["tokenizer"]) == ("done", "will run")
    assert CANARY not in said


@pytest.mark.parametrize("debug", [(), ("--debug",)])
@pytest.mark.parametrize(
    ("old", "new", "code", "expected"),
    [
        ("a.jsonl", f"{CANARY}/gone.jsonl", 2, "404 Not Found"),
        (f"token={LITERAL}", f"token={CANARY}-wrong", 2, "403 Forbidden"),
        (f"me:{PASSWORD}", f"me:{PASSWORD}-wrong", 2, "403 Forbidden"),
        (f"me:{PASSWORD}", f"me:{CANARY}/{CANARY}", 2, "cannot be opened as an address"),
        ("http://me", f"ftp://{CANARY}", 2, "url does not begin with https://"),
        ("{host}/a", "127.0.0.1:9/a", 5, "refused"),
        ("a.jsonl?", "a.pdf?", 2, "does not end in one of"),
        ("corpus:", "corpuss:", 2, "unknown key corpuss"),
        ("weight: 2", f'weight: "http://me:{CANARY}@h/?t={CANARY}"', 2, "is not a number"),
        ("${BIRD}/b", "${NO_SUCH_BIRD}/b", 2, "the variable NO_SUCH_BIRD is not set"),
    ],
    ids=lambda value: str(value).replace(CANARY, "bird")[:20],
)  # fmt: skip
def test_no_failing_download_and_no_mistake_shows_a_secret(home, host, old, new, code, expected, debug):
    path = home / "secretive.yaml"
    config = path.read_text()
    old, new = old.replace("{host}", host), new.replace("{host}", host)
    assert old in config
    path.write_text(config.replace(old, new))
    done, said, _ = folio(home, "run", path, "--until", "corpus", *debug)
    assert (done, expected in said) == (code, True), said
    shown = said if "gone" not in new else said.replace(f"/{CANARY}/gone", "")  # written in the path, as no variable
    assert CANARY not in shown
    assert ("Traceback" in said) == bool(debug)
    assert not (home / "kept" / "FOLIO_STORE").exists() or files_with_canaries(home / "kept") == []


def test_a_setting_with_a_secret_is_shown_without_it(home, host):
    sources = f'corpus.sources=[{{url: "http://me:{CANARY}@{host}/a.jsonl?token={CANARY}"}}]'
    code, said, _ = folio(home, "run", "secretive.yaml", "--set", sources)
    assert (code, "403 Forbidden" in said) == (2, True)
    code, more, _ = folio(home, "run", "secretive.yaml", "--set", sources.replace(".", "..", 1))
    assert (code, "is not of the form" in more) == (2, True)
    assert CANARY not in said + more
