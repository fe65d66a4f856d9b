"""Ranks that somebody else started: they meet or say why not, train whenever rank 0 does, and leave together."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pipeline.distributed.job import Job
from pipeline.distributed.rendezvous import meet
from pipeline.distributed.world import World
from pipeline.errors import EnvironmentFault


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def ranks(make_job: Callable[..., Job], port: int, launched: Callable[..., Any]) -> Callable[..., Any]:
    """ranks(steps, faults): two ranks as srun starts them, rank 0 first."""

    def start(**job: Any) -> list[Any]:
        written = make_job(**job)
        world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        return [launched(written, **world, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(2)]

    return start


def test_ranks_train_together_twice_and_leave_with_0(ranks: Callable[..., Any]) -> None:
    first, second = ranks(steps=3)
    assert [first.end(), second.end()] == [(0, ""), (0, "")]


@pytest.mark.parametrize("rank", [0, 1])
def test_all_leave_with_the_exit_code_of_the_refusal_and_rank_0_says_it(ranks: Callable[..., Any], rank: int) -> None:
    first, second = ranks(faults={f"{rank}:3": "refuse"})
    assert first.end() == (3, "Shard x is damaged. Run stage shards again.")
    assert second.end() == (3, "")


def test_killed_rank_is_named_by_rank_0(ranks: Callable[..., Any]) -> None:
    first, second = ranks(faults={"1:3": "SIGKILL"})
    code, said = first.end()
    assert code == 6
    assert "Lost contact with rank 1 on" in said
    assert "at step 3" in said
    assert second.end()[0] == -signal.SIGKILL


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


def test_master_port_that_is_taken_is_refused_by_rank_0() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(EnvironmentFault, match=f"127.0.0.1:{port}"):
            meet(World(rank=0, world_size=2, local_world_size=2, master_port=port), 1)
