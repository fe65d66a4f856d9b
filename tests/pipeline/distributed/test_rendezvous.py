"""Ranks meet, or each that can still hear it says who did not come."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from torch.distributed import HashStore  # type: ignore[attr-defined]

from pipeline.distributed import rendezvous
from pipeline.distributed.rendezvous import meet, wait_until
from pipeline.distributed.world import World
from pipeline.errors import EnvironmentFault


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def test_single_rank_meets_nobody_and_opens_no_port() -> None:
    assert isinstance(meet(World(), 1), HashStore)


def test_ranks_that_met_share_a_store(port: int) -> None:
    worlds = [World(rank, rank, 2, 2, master_port=port) for rank in (0, 1)]
    with ThreadPoolExecutor() as pool:
        first, second = [meeting.result() for meeting in [pool.submit(meet, world, 20) for world in worlds]]
    first.set("key", "value")
    assert second.get("key") == b"value"


def test_restarted_attempt_does_not_see_what_the_earlier_one_left(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun's agent keeps its store over restarts; a second store of this process stands for the agent here."""
    world = World(0, 0, 2, 2, master_port=port)
    earlier = rendezvous._connect(world, 5)
    earlier.set("verdict", "complete")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    assert rendezvous._connect(world, 5).check(["verdict"])
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert not rendezvous._connect(world, 5).check(["verdict"])


def test_rank_that_never_starts_is_named_before_training(port: int) -> None:
    alone = World(rank=0, world_size=3, local_world_size=3, master_port=port)
    with pytest.raises(EnvironmentFault, match=f"Only 1 of 3 ranks met at 127.0.0.1:{port} within 1 s: rank 1, 2"):
        meet(alone, 1)


def test_master_that_never_starts_is_named_before_training(port: int) -> None:
    alone = World(rank=1, local_rank=1, world_size=2, local_world_size=2, master_port=port)
    with pytest.raises(EnvironmentFault, match=f"Rank 1 of 2 on .* did not reach the master at 127.0.0.1:{port}"):
        meet(alone, 1)


def test_loopback_master_is_suspected_when_ranks_of_another_machine_are_missing(port: int) -> None:
    alone = World(rank=1, world_size=2, local_world_size=1, master_address="127.0.1.1", master_port=port)
    with pytest.raises(EnvironmentFault, match=r"127\.0\.1\.1, which other machines cannot reach"):
        meet(alone, 1)


def test_every_rank_hears_who_is_missing(port: int) -> None:
    present = [World(rank, rank, 3, 3, master_port=port) for rank in (0, 1)]
    with ThreadPoolExecutor() as pool:
        meetings = [pool.submit(meet, world, 2) for world in present]
    for meeting in meetings:
        with pytest.raises(EnvironmentFault, match=r"Only 2 of 3 ranks met .*: rank 2 did not come"):
            meeting.result()


def test_operator_reads_every_few_seconds_who_is_missing_and_who_said_so(
    port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rendezvous, "NOTICE_SECONDS", 0.5)
    alone = World(rank=0, world_size=4, local_world_size=4, master_port=port, source="SLURM_NTASKS=4 on n1")
    with pytest.raises(EnvironmentFault, match=r"rank 1, 2, 3 did not come \(SLURM_NTASKS=4 on n1\)"):
        meet(alone, 2)
    lines = capsys.readouterr().err.splitlines()
    assert set(lines) == {"waiting for 3 of 4 ranks: 1, 2, 3 (SLURM_NTASKS=4 on n1)"}
    assert 2 <= len(lines) <= 4


@pytest.mark.parametrize(("local_rank", "lines"), [(0, 1), (1, 0)])
def test_one_rank_of_a_node_says_that_it_waits_for_the_master(
    local_rank: int, lines: int, port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rendezvous, "NOTICE_SECONDS", 0.6)
    waiting = World(2 + local_rank, local_rank, 4, 2, master_port=port, source="WORLD_SIZE=4")
    with pytest.raises(EnvironmentFault, match=r"within 1 s \(WORLD_SIZE=4\)"):
        meet(waiting, 1)
    expected = f"waiting for rank 0 of 4 at 127.0.0.1:{port} (WORLD_SIZE=4)"
    assert capsys.readouterr().err.splitlines() == [expected] * lines


def test_own_ranks_are_awaited_in_silence(
    port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their launcher watches them: one that is missing has not ended."""
    monkeypatch.setattr(rendezvous, "NOTICE_SECONDS", 0.1)
    with pytest.raises(EnvironmentFault):
        meet(World(rank=0, world_size=2, local_world_size=2, master_port=port), 1)
    assert capsys.readouterr().err == ""


def test_master_port_that_is_taken_is_refused_by_rank_0() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(EnvironmentFault, match=f"127.0.0.1:{port}"):
            meet(World(rank=0, world_size=2, local_world_size=2, master_port=port), 1)


def test_wait_until_looks_at_least_once_and_stops_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    clock: Any = type(
        "Clock", (), {"monotonic": lambda: now[0], "sleep": lambda seconds: now.append(now.pop() + seconds)}
    )
    monkeypatch.setattr(rendezvous, "time", clock)
    assert wait_until(lambda: True, -1)
    assert wait_until(lambda: now[0] > 102, 3)
    now[0] = 100.0
    assert not wait_until(lambda: False, 3)
    assert now[0] == pytest.approx(103.1)
