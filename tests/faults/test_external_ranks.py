"""Ranks that somebody else started: they train whenever rank 0 does, and leave together."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.distributed.job import Job


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
