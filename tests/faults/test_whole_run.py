"""A whole run as an operator sees it: done twice, killed in every stage, refused for what is wrong with its inputs."""

import json
import os
import pydoc_data.topics
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from base64 import b64encode
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import psutil
import pytest

CONFIG = """
name: small
target: {{path: "{folder}/target.txt"}}
corpus:
  sources:
    - {{name: texts, path: "{folder}/corpus/*.txt"}}
    - {{url: "http://me:{secret}@{host}/more.jsonl?token=${{SECRET_BIRD}}"}}
  validation: 15%
tokenizer: {{vocab_size: 320, sample_bytes: 200KB}}
model: {{layers: 1, width: 32, heads: 2, context: 32}}
pretrain: {{tokens: 40960, batch_tokens: 1024, micro_batch: 16, learning_rate: 1e-2, evaluate_every: 10, save_every: 5,
           evaluate_tokens: 2k}}
scratch: {{learning_rates: [1e-2], max_steps: 12, batch_tokens: 512, micro_batch: 8, evaluate_every: 4, save_every: 4,
          seeds: [1, 2]}}
finetune: {{learning_rates: [3e-3], max_steps: 12, batch_tokens: 512, micro_batch: 8, evaluate_every: 4, save_every: 4,
           seeds: [1, 2]}}
report: {{resamples: 200, sample_tokens: 20}}
launch: {{ranks: 2, threads: 1, workers: 2}}
"""
STAGES = ("target", "corpus", "tokenizer", "shards", "pretrain", "scratch", "finetune", "report")
SECONDS = 400
SECRET = "kanarienvogel"  # user, password and token of a source


class Server(BaseHTTPRequestHandler):
    """Two documents for whoever knows the secret."""

    def do_GET(self):
        authorized = self.headers["Authorization"] == f"Basic {b64encode(f'me:{SECRET}'.encode()).decode()}"
        body = "".join(json.dumps({"text": f"{word} " * 200}) + "\n" for word in ("one", "two")).encode()
        self.send_response(200 if authorized and self.path.endswith(f"?token={SECRET}") else 403)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", "one")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Keep stderr clean."""


@pytest.fixture(scope="module")
def host(serving):
    with serving(Server) as host:
        yield host


@pytest.fixture(scope="module")
def run(tmp_path_factory, host):
    """A config with its data, brought to its report once; `folder/store` holds the artifacts, `folder/said.txt` what it
    said."""
    folder = tmp_path_factory.mktemp("run")
    text = "\n".join(text for _, text in sorted(pydoc_data.topics.topics.items()))
    assert len(text) > 300_000
    (folder / "target.txt").write_text(text[:60_000])
    (folder / "corpus").mkdir()
    for number, start in enumerate(range(60_000, 300_000, 5_000)):
        (folder / "corpus" / f"{number:02d}.txt").write_text(text[start : start + 5_000])
    (folder / "small.yaml").write_text(CONFIG.format(folder=folder, host=host, secret=SECRET))
    done = folio(folder, "run", folder / "small.yaml")
    assert done.returncode == 0, done.stderr
    (folder / "said.txt").write_text(done.stdout + done.stderr)
    return folder


def command(*arguments):
    return [Path(sys.executable).with_name("folio"), *map(str, arguments)]


def environment(folder, store="store"):
    return {**os.environ, "FOLIO_STORE": str(folder / store), "DS_ACCELERATOR": "cpu", "SECRET_BIRD": SECRET}


def folio(folder, *arguments, store="store"):
    return subprocess.run(
        command(*arguments),
        env=environment(folder, store),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def artifact(folder, stage, store="store"):
    (found,) = (folder / store).glob(f"{stage}-*")
    return found


def content(folder, stage, store, name):
    return json.loads((artifact(folder, stage, store) / name).read_text())


def refusal(done, code):
    """The one line that a refused command says."""
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("folio: ")]
    assert len(lines) == 1
    assert "Traceback" not in done.stderr
    return lines[0]


def test_second_run_does_nothing_and_names_the_report(run):
    before = {path: path.stat().st_mtime_ns for path in (run / "store").rglob("*") if path.is_file()}
    done = folio(run, "run", run / "small.yaml")
    assert done.stdout.strip().endswith("report.html")
    assert Path(done.stdout.strip()).is_file()
    assert before == {path: path.stat().st_mtime_ns for path in (run / "store").rglob("*") if path.is_file()}


def test_no_secret_is_in_any_artifact_nor_in_what_was_said(run):
    reads = (["plan"], ["status"], ["verify"], ["data", "show"])
    for command_line in reads:
        step = ["--step", 3] if command_line[0] == "data" else []
        done = folio(run, *command_line, run / "small.yaml", *step)
        assert done.returncode == 0, done.stderr
        assert SECRET not in done.stdout + done.stderr
    report = content(run, "report", "store", "report.json")
    url = report["provenance"]["config"]["corpus"]["sources"][1]["url"]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/more\.jsonl\?token=\$\{SECRET_BIRD\}", url)
    files = [run / "said.txt", *(path for path in (run / "store").rglob("*") if path.is_file())]
    assert len(files) > 60
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_every_command_that_only_reads_tells_of_the_finished_run(run):
    config, pretrain = run / "small.yaml", artifact(run, "pretrain")
    assert folio(run, "plan", config).stdout.splitlines()[-1] == "Nothing to do."
    assert {state["state"] for state in json.loads(folio(run, "status", config, "--json").stdout)} == {"done"}
    verified = [line.split() for line in folio(run, "verify", config).stdout.splitlines()]
    assert [words[:2] for words in verified] == [[stage, "ok"] for stage in STAGES]
    spans = [json.loads(line) for line in folio(run, "data", "show", config, "--step", 3, "--json").stdout.splitlines()]
    assert {span["rank"] for span in spans} == {0, 1}
    assert {span["sample"] for span in spans} == set(range(32))
    listed = folio(run, "checkpoint", "list", pretrain).stdout
    assert "step-00000040  41k tokens" in listed
    assert "2 ranks" in listed
    text = folio(run, "sample", artifact(run, "finetune"), "--prompt", "The", "--tokens", 20).stdout
    assert text.startswith("The")
    assert text == folio(run, "sample", artifact(run, "finetune"), "--prompt", "The", "--tokens", 20).stdout


def test_export_scores_the_validation_text_as_the_report_does(run, tmp_path):
    pytest.importorskip("transformers")
    done = folio(run, "export", artifact(run, "finetune"), tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "of the run's validation text" in done.stdout
    assert done.stdout.splitlines()[-1] == f"{tmp_path / 'out'}: Qwen3ForCausalLM"
    here, there = re.search(r"ok  bits per byte  (\S+) here, (\S+) there", done.stdout).groups()
    arm = content(run, "report", "store", "report.json")["arms"]["finetune"]
    assert here == there
    assert here in {f"{loss:.4f}" for loss in arm["val_bits_per_byte"]["per_seed"]}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_report_on_the_finished_artifacts_gives_the_same_json(run):
    shutil.copytree(run / "store", run / "again")
    first = (artifact(run, "report") / "report.json").read_bytes()
    shutil.rmtree(artifact(run, "report", "again"))
    assert folio(run, "report", run / "small.yaml", store="again").returncode == 0
    assert (artifact(run, "report", "again") / "report.json").read_bytes() == first


def test_run_killed_in_every_stage_ends_with_the_same_losses(run):
    victims = dict(zip(STAGES, (0, 0, 0, 0, "rank", 0, "rank", 0), strict=True))
    killed = [stage for stage, victim in victims.items() if kill_in(stage, victim, run)]
    assert {"pretrain", "scratch", "finetune"} <= set(killed), "the training stages are long enough to be hit"
    done = folio(run, "run", run / "small.yaml", store="killed")
    assert done.returncode == 0, done.stderr
    reports = [
        json.loads((artifact(run, "report", store) / "report.json").read_text()) for store in ("store", "killed")
    ]
    for section in ("arms", "gain", "pretrain", "samples"):
        assert reports[0][section] == reports[1][section]
    for stage in ("corpus", "tokenizer", "shards"):
        hashes = [
            json.loads((artifact(run, stage, s) / "manifest.json").read_text())["files"] for s in ("store", "killed")
        ]
        assert hashes[0] == hashes[1]


def kill_in(stage, victim, run):
    """Run until `stage` is at work, then SIGKILL the program (0) or one of its ranks; whether it was still at work."""
    process = subprocess.Popen(
        command("run", run / "small.yaml"),
        env=environment(run, "killed"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        at_work = wait_until(lambda: begun(stage, run) or process.poll() is not None) and process.poll() is None
        doomed = ranks_of(process) if victim == "rank" else []
        family = psutil.Process(process.pid).children(recursive=True) if at_work else []
        os.kill(doomed[-1].pid if doomed else process.pid, signal.SIGKILL)
        process.wait(60)
        assert wait_until(lambda: not any(alive(one) for one in family), 15), "orphans stay behind"
        return at_work
    finally:
        if process.poll() is None:
            process.kill()


def begun(stage, run):
    """For a training stage: a checkpoint is there, so that there is something to lose and something to resume."""
    folders = list((run / "killed").glob(f"{stage}-*"))
    if not folders or stage not in ("pretrain", "scratch", "finetune"):
        return bool(folders)
    return any(folders[0].rglob("checkpoint.json"))


def ranks_of(process):
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "pipeline.distributed.worker" in " ".join(child.cmdline())]


def alive(process):
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def wait_until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return met


@pytest.fixture
def copied(run):
    """The run with its last stages missing, in a store of its own that a test may damage."""
    shutil.copytree(run / "store", run / "copied")
    for stage in ("pretrain", "scratch", "finetune", "report"):
        shutil.rmtree(artifact(run, stage, "copied"))
    yield run
    shutil.rmtree(run / "copied")


def test_damaged_shard_is_named_before_training(copied):
    shard = artifact(copied, "shards", "copied") / "target/train.arrow"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    line = refusal(folio(copied, "scratch", copied / "small.yaml", store="copied"), 3)
    assert "target/train.arrow has another sha256" in line


def test_changed_tokenizer_is_refused_before_training(copied):
    path = artifact(copied, "tokenizer", "copied") / "tokenizer.json"
    path.write_text(path.read_text() + " ")
    line = refusal(folio(copied, "scratch", copied / "small.yaml", store="copied"), 3)
    assert "tokenizer.json" in line


def test_too_little_data_for_one_batch_is_refused_with_the_numbers(copied):
    arguments = ("--set", "scratch.batch_tokens=262144")
    line = refusal(folio(copied, "scratch", copied / "small.yaml", *arguments, store="copied"), 2)
    assert "asks for 8,192 samples a batch, but the target's training split has 1,056 samples" in line
    assert "Use scratch.batch_tokens=33792" in line


def test_batch_that_does_not_divide_says_what_would(copied):
    arguments = ("--set", "scratch.batch_tokens=1000")
    assert "Use " in refusal(folio(copied, "scratch", copied / "small.yaml", *arguments, store="copied"), 2)


def test_busy_port_is_named(copied):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        arguments = ("--set", f"launch.port={port}")
        line = refusal(folio(copied, "scratch", copied / "small.yaml", *arguments, store="copied"), 5)
    assert f"127.0.0.1:{port}" in line


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
@pytest.mark.parametrize("stage", ["corpus", "shards", "pretrain"])
def test_full_disk_is_named_and_a_larger_one_goes_on(run, stage, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", small], check=False).returncode != 0:
        pytest.skip("this sandbox does not allow mounts")
    try:
        earlier = STAGES[: STAGES.index(stage)]
        for name in earlier:
            shutil.copytree(artifact(run, name), small / artifact(run, name).name)
        fill(small, leave=20_000)
        line = refusal(folio(small, stage, run / "small.yaml", store="."), 5)
        assert str(small) in line
        assert "free" in line
        (small / "ballast").unlink()
        done = folio(small, stage, run / "small.yaml", store=".")
        assert done.returncode == 0, done.stderr
    finally:
        subprocess.run(["umount", small], check=True)


def fill(folder, leave):
    free = shutil.disk_usage(folder).free
    (folder / "ballast").write_bytes(b"0" * max(free - leave, 0))
