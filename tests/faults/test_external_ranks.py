"""Ranks that somebody else started: they train whenever rank 0 does, and leave together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
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


def without_waiting_lines(said: str) -> str:
    """Loaded machines start one rank seconds after the other, and then the first one says that it waits."""
    return "\n".join(line for line in said.splitlines() if not line.startswith("waiting for "))


def test_ranks_train_together_twice_and_leave_with_0(ranks: Callable[..., Any]) -> None:
    first, second = ranks(steps=3)
    ended = [first.end(), second.end()]
    assert [(code, without_waiting_lines(said)) for code, said in ended] == [(0, ""), (0, "")]


@pytest.mark.parametrize("rank", [0, 1])
def test_all_leave_with_the_exit_code_of_the_refusal_and_rank_0_says_it(ranks: Callable[..., Any], rank: int) -> None:
    first, second = ranks(faults={f"{rank}:3": "refuse"})
    ended = [first.end(), second.end()]
    assert [(code, without_waiting_lines(said)) for code, said in ended] == [
        (3, "Shard x is damaged. Run stage shards again."),
        (3, ""),
    ]


def test_killed_rank_is_named_by_rank_0(ranks: Callable[..., Any]) -> None:
    first, second = ranks(faults={"1:3": "SIGKILL"})
    code, said = first.end()
    assert code == 6
    assert "Lost contact with rank 1 on" in said
    assert "at step 3" in said
    assert second.end()[0] == -signal.SIGKILL


DATA = os.environ.get("FOLIO_DATA")


@pytest.mark.data
@pytest.mark.skipif(not DATA, reason="reads odd/salloc.env of FOLIO_DATA")
def test_shell_of_an_allocation_trains_on_ranks_of_its_own(
    make_job: Callable[..., Job], launched: Callable[..., Any]
) -> None:
    text = (Path(str(DATA)) / "odd/salloc.env").read_text(encoding="utf-8")
    variables = dict(line.split("=", 1) for line in text.splitlines())
    assert variables["SLURM_NTASKS"] == "4"
    job = make_job(steps=3, ranks=1)
    assert launched(job, **variables).end() == (0, "")


# What is left of a world in a shell: exported by hand, or inherited from the launcher of another program.
LEFT_BEHIND = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1"}
ALLOCATION = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_JOB_NODELIST": "127.0.0.1"}
CONFIG = """
target: {path: target.txt}
tokenizer: {kind: char}
model: {layers: 1, width: 16, heads: 1, context: 16}
scratch: {max_steps: 2, batch_tokens: 64, micro_batch: 4, learning_rates: [1e-2], seeds: [1], evaluate_every: 2}
launch: {startup_seconds: 6, threads: 1}
"""


def scratch(folder: Path, *options: str, **variables: str) -> tuple[int, str]:
    """Exit code and last words of `folio run --until scratch` in an environment."""
    (folder / "target.txt").write_text("".join(f"line {number} of a play\n" for number in range(800)))
    (folder / "run.yaml").write_text(CONFIG)
    done = subprocess.run(
        [Path(sys.executable).with_name("folio"), "run", "run.yaml", "--until", "scratch", *options],
        cwd=folder,
        env={**os.environ, "FOLIO_STORE": "store", "DS_ACCELERATOR": "cpu", **variables},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("left_behind", "source"),
    [
        (LEFT_BEHIND, "WORLD_SIZE=4"),
        ({**ALLOCATION, "SLURM_NTASKS": "4"}, "SLURM_NTASKS=4 on 127.0.0.1"),
    ],
)
def test_ranks_that_nobody_started_are_named_while_they_are_awaited_and_the_cure_works(
    left_behind: dict[str, str], source: str, port: int, tmp_path: Path
) -> None:
    left_behind = {**left_behind, "MASTER_PORT": str(port)}
    code, said = scratch(tmp_path, **left_behind)
    *waiting, refusal = said.splitlines()
    assert code == 5, said
    assert waiting == [f"waiting for 3 of 4 ranks: 1, 2, 3 ({source})"]
    assert f"rank 1, 2, 3 did not come ({source})" in refusal
    assert "or give --ranks N to train on ranks of this process's own." in refusal
    code, said = scratch(tmp_path, "--ranks", "1", **left_behind)
    assert code == 0, said
    assert list((tmp_path / "store").glob("scratch-*/manifest.json"))


@pytest.mark.parametrize(
    "variables",
    [
        {"WORLD_SIZE": "4"},
        {"RANK": "1"},
        {"RANK": "zero", "WORLD_SIZE": "4"},
        {"RANK": "0", "WORLD_SIZE": "two"},
        {**LEFT_BEHIND, "MASTER_PORT": "70000"},
        {name: value for name, value in LEFT_BEHIND.items() if name != "MASTER_ADDR"},
        {**ALLOCATION, "SLURM_NTASKS": "4", "SLURM_PROCID": "x"},
        {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"},
    ],
    ids=str,
)
def test_variables_that_make_no_world_are_refused_in_one_line(variables: dict[str, str], tmp_path: Path) -> None:
    code, said = scratch(tmp_path, **variables)
    assert (code, len(said.splitlines())) == (2, 1), said


def test_master_that_nobody_knows_is_refused_in_one_line(port: int, tmp_path: Path) -> None:
    code, said = scratch(tmp_path, **{**LEFT_BEHIND, "MASTER_ADDR": "no-such-host.invalid", "MASTER_PORT": str(port)})
    assert (code, len(said.splitlines())) == (5, 1), said
    assert "no-such-host.invalid" in said
