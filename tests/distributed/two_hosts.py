"""Two hosts: network namespaces with their own loopback and addresses, joined by a cable called wire on both."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from pipeline.distributed.heartbeat import beats
from pipeline.distributed.job import Job

needs_namespaces = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None, reason="network namespaces need root and iproute2"
)
PORT = 29_400
WORKER = [sys.executable, "-m", "pipeline.distributed.start_rank"]


@dataclass(frozen=True)
class Namespace:
    """One host."""

    name: str
    address: str
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *command: str | Path, **environment: str) -> subprocess.Popen[str]:
        """Run a program there; it ends with the test."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.name, *map(str, command)],
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process


Pair = tuple[Namespace, Namespace]


@contextmanager
def two_hosts(join: Callable[[Pair], None]) -> Iterator[Pair]:
    """Two hosts for the time of a test; `join` makes the device called wire on both."""
    names = f"folio-a-{os.getpid()}", f"folio-b-{os.getpid()}"
    pair = Namespace(names[0], "10.83.0.1"), Namespace(names[1], "10.83.0.2")
    try:
        for host in pair:
            run("ip", "netns", "add", host.name)
        join(pair)
        for host in pair:
            run("ip", "-n", host.name, "address", "add", f"{host.address}/24", "dev", "wire")
            for device in ("lo", "wire"):
                run("ip", "-n", host.name, "link", "set", device, "up")
        yield pair
    finally:
        for host in pair:
            for process in host.started:
                process.kill()
                process.communicate()
            subprocess.run(["ip", "netns", "del", host.name], check=False, stderr=subprocess.DEVNULL)


def by_cable(pair: Pair) -> None:
    a, b = pair
    run("ip", "link", "add", "wire", "netns", a.name, "type", "veth", "peer", "name", "wire", "netns", b.name)


def by_slow_cable(delay_seconds: float, lost_share: float) -> Callable[[Pair], None]:
    def join(pair: Pair) -> None:
        program = Path(__file__).with_name("slow_cable.py")
        names = [host.name for host in pair]
        cable = pair[0].start(sys.executable, program, *names, str(delay_seconds), str(lost_share))
        assert cable.stdout is not None
        assert cable.stdout.readline() == "ready\n", cable.communicate()[1]

    return join


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def place(rank: int, hosts: Pair) -> dict[str, str]:
    """The variables of a rank, one on each host."""
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "RANK": str(rank), "LOCAL_RANK": "0"}
    return world | {"MASTER_ADDR": hosts[0].address, "MASTER_PORT": str(PORT)}


def patient(job: Job, **seconds: int) -> Job:
    """The job with other timeouts."""
    changed = replace(job, launch=job.launch.model_copy(update=seconds))
    changed.write()
    return changed


def await_step(job: Job, step: int, seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not all((beat.step or 0) >= step for beat in beats(job.logs).values()) or len(beats(job.logs)) < 2:
        assert time.monotonic() < deadline, beats(job.logs)
        time.sleep(0.05)


def ends(nodes: list[subprocess.Popen[str]]) -> list[str]:
    """What the nodes said on stderr until they ended."""
    return [node.communicate(timeout=280)[1] for node in nodes]
