"""Ranks and launchers that die, hang, refuse or are asked to stop: one verdict, and nobody left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

Launch = Callable[..., Any]


@pytest.mark.parametrize("rank", [0, 1])
def test_killed_rank_takes_all_down_in_five_seconds_and_is_named(launch: Launch, rank: int) -> None:
    launched = launch()
    launched.wait_for_step(5)
    ranks = launched.ranks()
    ranks[rank].kill()
    killed = time.monotonic()
    code, said = launched.end()
    assert time.monotonic() - killed < 5
    assert code == 6
    assert f"Lost rank {rank} on {socket.gethostname()}, at step " in said
    assert "killed (out of memory?)" in said
    assert f"rank-{rank}.log" in said
    assert not any(one.is_running() for one in ranks)


def test_killed_launcher_takes_its_ranks_along(launch: Launch) -> None:
    launched = launch()
    launched.wait_for_step(2)
    ranks = launched.ranks()
    launched.process.kill()
    assert psutil.wait_procs(ranks, timeout=10)[1] == []
    assert launched.end()[0] != 0


def test_halted_rank_is_named_with_its_step_when_the_others_lose_patience(launch: Launch) -> None:
    launched = launch(timeout_seconds=3, faults={"1:7": "SIGSTOP"})
    launched.wait_for_step(7)
    halted = time.monotonic()
    code, said = launched.end()
    assert code == 6
    assert f"Lost contact with rank 1 on {socket.gethostname()}, at step 7 (halted by a signal)" in said
    assert time.monotonic() - halted < 3 + 5 + 1  # timeout, then five seconds, and the others' step


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGALRM])
def test_stop_signal_to_the_launcher_saves_and_leaves_with_75(launch: Launch, number: signal.Signals) -> None:
    launched = launch()
    launched.wait_for_step(2)
    launched.process.send_signal(number)
    code, said = launched.end()
    assert code == 75
    assert said.startswith("Saved at step ")


def test_interrupt_saves_and_leaves_with_130(launch: Launch) -> None:
    launched = launch()
    launched.wait_for_step(2)
    launched.process.send_signal(signal.SIGINT)
    code, said = launched.end()
    assert code == 130
    assert said.startswith("Saved at step ")


def test_stop_signal_to_one_rank_stops_all_of_them_and_none_listened_beyond_loopback(launch: Launch) -> None:
    launched = launch()
    launched.wait_for_step(2)
    listening = [
        connection.laddr.ip
        for rank in launched.ranks()
        for connection in rank.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    launched.ranks()[1].send_signal(signal.SIGTERM)
    assert launched.end()[0] == 75
    assert set(listening) == {"127.0.0.1"}


def test_second_order_ends_ranks_that_cannot_save(launch: Launch) -> None:
    launched = launch(faults={"1:3": "SIGSTOP"})
    launched.wait_for_step(3)
    ranks = launched.ranks()
    launched.process.terminate()
    time.sleep(1.5)
    launched.process.terminate()
    code, said = launched.end(seconds=5)
    assert code == 75
    assert "ended at once" in said
    assert not any(one.is_running() for one in ranks)


def test_refusal_of_one_rank_is_what_the_operator_reads(launch: Launch) -> None:
    assert launch(faults={"1:3": "refuse"}).end() == (3, "Shard x is damaged. Run stage shards again.")


def test_rank_is_done_before_python_is_taken_down_under_the_threads_of_gloo(launch: Launch) -> None:
    code, said = launch(steps=5, faults={"1:3": "abort on exit"}).end()
    assert (code, said) == (0, "")


def test_crashed_rank_leaves_its_stack_in_its_log(launch: Launch) -> None:
    launched = launch(faults={"1:3": "SIGSEGV"})
    code, said = launched.end()
    assert code == 6
    assert "it ended with SIGSEGV" in said
    log = (launched.job.logs / "rank-1.log").read_text()
    assert "Fatal Python error: Segmentation fault" in log
    assert "in train_stage" in log


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "folio", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_full_disk_of_a_rank_is_named_by_the_launcher(launch: Launch, small_disk: Path) -> None:
    code, said = launch(folder=small_disk, faults={"1:3": "fill the disk"}).end()
    assert code == 5
    assert f"No space left for {small_disk}" in said


def test_taken_port_is_refused_before_any_rank_starts(launch: Launch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        launched = launch(port=port)
        code, said = launched.end()
    assert code == 5
    assert f"127.0.0.1:{port}" in said
    assert launched.ranks() == []
