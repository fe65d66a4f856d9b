"""Training across two hosts."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.distributed.heartbeat import beats
from pipeline.distributed.job import Job
from pipeline.training.metrics import read_metrics
from tests.distributed.two_hosts import (
    PORT,
    WORKER,
    Namespace,
    Pair,
    await_step,
    by_cable,
    by_slow_cable,
    ends,
    needs_namespaces,
    patient,
    place,
    run,
    two_hosts,
)

SYSTEM = f"{os.environ['PATH']}:/usr/sbin"
needs_ssh = pytest.mark.skipif(
    any(shutil.which(tool, path=SYSTEM) is None for tool in ("ssh", "sshd", "pdsh")),
    reason="a hostfile needs ssh, sshd and pdsh",
)
pytestmark = [pytest.mark.root, needs_namespaces]


@pytest.fixture
def hosts() -> Iterator[Pair]:
    with two_hosts(by_cable) as pair:
        yield pair


def test_torchrun_trains_across_two_hosts(hosts: Pair, job_in: Callable[..., Job], tmp_path: Path) -> None:
    job = job_in(tmp_path / "run", "pretrain")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    meeting = ["--master-addr", hosts[0].address, "--master-port", str(PORT)]
    nodes = [
        host.start(*torchrun, *meeting, "--node-rank", str(rank), "-m", WORKER[-1], job.path)
        for rank, host in enumerate(hosts)
    ]
    said = ends(nodes)
    assert [node.returncode for node in nodes] == [0, 0], said
    counts = json.loads(job.outcome_file.read_bytes())
    assert counts["world_size"] == 2


def test_cut_cable_ends_both_sides_in_time(hosts: Pair, job_in: Callable[..., Job], tmp_path: Path) -> None:
    endless = {"tokens": 128 * 5000, "evaluate_every": 5000, "save_every": 5000}
    job = patient(job_in(tmp_path / "run", "pretrain", **endless), timeout_seconds=3)
    nodes = [host.start(*WORKER, job.path, **place(rank, hosts)) for rank, host in enumerate(hosts)]
    await_step(job, 3)
    run("ip", "-n", hosts[1].name, "link", "set", "wire", "down")
    cut = time.monotonic()
    ends(nodes)
    assert time.monotonic() - cut < 3 + 5
    assert [node.returncode for node in nodes] == [6, 6]


@pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="a slow cable needs /dev/net/tun")
def test_a_slow_network_that_loses_packets_changes_nothing(job_in: Callable[..., Job], tmp_path: Path) -> None:
    seconds, losses = [], []
    for join in (by_cable, by_slow_cable(0.05, 0.05)):
        job = job_in(tmp_path / join.__name__, "pretrain")
        with two_hosts(join) as pair:
            nodes = [host.start(*WORKER, job.path, **place(rank, pair)) for rank, host in enumerate(pair)]
            said = ends(nodes)
        assert [node.returncode for node in nodes] == [0, 0], said
        steps = [line for line in read_metrics(Path(job.folder)) if "seconds" in line]
        seconds.append(sum(line["seconds"] for line in steps))
        losses.append([line["train_nats_per_token"] for line in steps])
    assert losses[1] == losses[0]
    assert len(losses[0]) == 8
    # Each step has at least three sums over the ranks, one after the other.
    assert seconds[1] > seconds[0] + 8 * 3 * 0.05


def test_address_where_nobody_answers_is_refused_before_training(
    hosts: Pair, job_in: Callable[..., Job], tmp_path: Path
) -> None:
    job = patient(job_in(tmp_path / "run", "pretrain"), startup_seconds=2)
    node = hosts[1].start(*WORKER, job.path, **place(1, hosts) | {"MASTER_ADDR": "10.83.0.99"})
    ends([node])
    assert node.returncode == 5
    assert f"10.83.0.99:{PORT}" in json.loads((job.logs / "rank-1.error.json").read_text())["message"]


@needs_ssh
def test_hostfile_trains_on_its_hosts(
    hosts: Pair, job_in: Callable[..., Job], ssh: Mapping[str, str], tmp_path: Path
) -> None:
    job = job_in(tmp_path / "run", "pretrain")
    said = launched(job, "a slots=1\nb slots=1\n", hosts[0], tmp_path, ssh)
    assert "counts" in said, said
    assert said["counts"]["world_size"] == 2
    assert {beat.host for beat in beats(job.logs).values()} == {os.uname().nodename}


@needs_ssh
def test_hosts_import_nothing_from_the_current_folder(
    hosts: Pair, job_in: Callable[..., Job], ssh: Mapping[str, str], tmp_path: Path
) -> None:
    mark = tmp_path / "SHADOWED"
    names = "gpt", "cli", "datasets", "torch", "deepspeed", "numpy", "random", "pickle", "socket", "signal", "runpy"
    for name in (*names, "pipeline/__init__"):
        module = tmp_path / f"{name}.py"
        module.parent.mkdir(exist_ok=True)
        module.write_text(f"open({str(mark)!r}, 'a').write(__name__)\nraise RuntimeError('not Folio')")
    said = launched(job_in(tmp_path / "run", "pretrain"), "a slots=1\nb slots=1\n", hosts[0], tmp_path, ssh)
    assert not mark.exists(), mark.read_text()
    assert said["counts"]["world_size"] == 2


# DeepSpeed's launcher gets torch itself.
TORCH_OF_NO_RANK = """
import os, sys
if "RANK" in os.environ:
    raise ImportError("no CUDA here")
sys.path.remove(os.path.dirname(__file__))
del sys.modules["torch"]
import torch
"""


@needs_ssh
def test_host_that_cannot_load_torch_says_so(
    hosts: Pair, job_in: Callable[..., Job], ssh: Mapping[str, str], tmp_path: Path
) -> None:
    job = job_in(tmp_path / "run", "pretrain")
    broken = preceding(tmp_path / "first", torch=TORCH_OF_NO_RANK)
    said = launched(job, "a slots=1\nb slots=1\n", hosts[0], tmp_path, ssh, **broken)
    assert said["exit_code"] == 5
    assert "could not load its program: ImportError: no CUDA here. Repair the installation there" in said["error"]
    (log,) = [word.rstrip(".") for word in said["error"].split() if word.startswith("/")]
    assert "ImportError: no CUDA here" in Path(log).read_text()


@needs_ssh
def test_host_whose_python_does_not_start_is_quoted_from_the_launchers_log(
    hosts: Pair, job_in: Callable[..., Job], ssh: Mapping[str, str], tmp_path: Path
) -> None:
    job = job_in(tmp_path / "run", "pretrain")
    dying = "import os, sys\nif '--world_info' in ' '.join(sys.orig_argv): sys.exit('no fit Python')"
    said = launched(
        job, "a slots=1\nb slots=1\n", hosts[0], tmp_path, ssh, **preceding(tmp_path / "x", sitecustomize=dying)
    )
    assert said["exit_code"] == 6
    log = job.logs / "launcher.log"
    assert f"ended without a result, see {log}, which ends with " in said["error"]
    assert 'SystemExit: no fit Python"' in said["error"]
    assert "no fit Python" in log.read_text()


def preceding(folder: Path, **modules: str) -> dict[str, str]:
    """The environment in which modules with these texts come before all others, on the hosts, too."""
    folder.mkdir()
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    return {"PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}".rstrip(":")}


@needs_ssh
def test_unreachable_host_is_named_before_training(
    hosts: Pair, job_in: Callable[..., Job], ssh: Mapping[str, str], tmp_path: Path
) -> None:
    run("ip", "-n", hosts[1].name, "link", "set", "lo", "down")
    said = launched(job_in(tmp_path / "run", "pretrain"), "a slots=1\nnowhere slots=1\n", hosts[0], tmp_path, ssh)
    assert said["exit_code"] == 5
    assert "nowhere is not reachable by ssh" in said["error"]


LAUNCHER = """
import json, sys
from pathlib import Path
from pipeline.errors import FolioError
from pipeline.distributed.launch_hosts import run_on_hosts
from pipeline.distributed.job import Job
try:
    print(json.dumps({"counts": run_on_hosts(Job.read(Path(sys.argv[1])), Path(sys.argv[2]))}))
except FolioError as error:
    print(json.dumps({"exit_code": error.exit_code, "error": str(error)}))
"""


def launched(
    job: Job, hostfile: str, host: Namespace, folder: Path, ssh: Mapping[str, str], **variables: str
) -> dict[str, Any]:
    """What a launcher on `host`, started in `folder`, reports after it trained on the hostfile's hosts."""
    (folder / "hosts").write_text(hostfile)
    # Without the variable, as on Python 3.10, which does not know it.
    there = ["env", "-u", "PYTHONSAFEPATH", "-C", folder]
    # A script's own folder comes first in its import path, so it has one to itself.
    script = folder / "script" / "launcher.py"
    script.parent.mkdir()
    script.write_text(LAUNCHER)
    process = host.start(*there, sys.executable, script, job.path, "hosts", **ssh, **variables)
    out, err = process.communicate(timeout=280)
    assert out, err
    return {"stderr": err, **json.loads(out.splitlines()[-1])}


@pytest.fixture
def ssh(hosts: Pair, tmp_path: Path) -> dict[str, str]:
    """An sshd on both hosts, and the environment in which `ssh a` and `ssh b` reach them."""
    Path("/run/sshd").mkdir(exist_ok=True)
    keys = {name: tmp_path / name for name in ("host_key", "user_key")}
    for key in keys.values():
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    for host in hosts:
        options = {"HostKey": keys["host_key"], "AuthorizedKeysFile": f"{keys['user_key']}.pub", "StrictModes": "no"}
        options |= {"ListenAddress": host.address, "PidFile": "none", "UsePAM": "no"}
        arguments = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        host.start(str(shutil.which("sshd", path=SYSTEM)), "-D", "-p", "2222", *arguments)
    config = tmp_path / "ssh_config"
    names = "".join(f"Host {name}\n  HostName {host.address}\n" for name, host in zip("ab", hosts, strict=True))
    common = f"Host *\n  Port 2222\n  IdentityFile {keys['user_key']}\n  StrictHostKeyChecking no\n  LogLevel ERROR\n"
    config.write_text(names + common + f"  UserKnownHostsFile {tmp_path}/known_hosts\n")
    tools = tmp_path / "tools"
    tools.mkdir()
    wrapper = tools / "ssh"
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {config} "$@"\n')
    wrapper.chmod(0o755)
    return {"PATH": f"{tools}:{os.environ['PATH']}"}
