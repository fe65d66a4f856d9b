"""Where a rank stands, as each launcher's environment says it."""

from __future__ import annotations

import socket

import pytest

from pipeline.distributed.signals import PARENT
from pipeline.distributed.world import (
    World,
    first_host,
    in_external_world,
    interface_towards,
    listening_socket,
    stand_alone,
)
from pipeline.errors import ConfigError, EnvironmentFault

TORCHRUN = {
    "RANK": "3",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "4",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "10.0.0.1",
    "MASTER_PORT": "29500",
    "DS_ACCELERATOR": "cpu",
}
SRUN = {
    "SLURM_PROCID": "4",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "2",
    "SLURM_NTASKS": "5",
    "SLURM_STEP_ID": "0",
    "SLURM_JOB_ID": "12345",
    "SLURM_JOB_NODELIST": "gpu[07-09]",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
    "ENVIRONMENT": "BATCH",
    "DS_ACCELERATOR": "cpu",
}


def test_torchrun_world_is_read() -> None:
    expected = World(
        rank=3, local_rank=1, world_size=4, local_world_size=2, master_address="10.0.0.1", master_port=29500
    )
    assert expected == World.from_environment(TORCHRUN)


def test_deepspeed_says_local_size() -> None:
    environment = {name: value for name, value in TORCHRUN.items() if name != "LOCAL_WORLD_SIZE"}
    assert World.from_environment({**environment, "LOCAL_SIZE": "2"}).local_world_size == 2


def test_srun_world_is_read_from_slurm() -> None:
    port = 20_000 + 12_345 % 10_000
    expected = World(rank=4, world_size=5, local_world_size=1, master_address="gpu07", master_port=port)
    assert expected == World.from_environment(SRUN)


def test_all_tasks_of_a_step_agree_on_the_master() -> None:
    ranks = [World.from_environment({**SRUN, "SLURM_PROCID": str(rank)}) for rank in range(1, 5)]
    assert {rank.endpoint for rank in ranks} == {"gpu07:22345"}


def test_master_may_be_given_under_srun() -> None:
    world = World.from_environment({**SRUN, "MASTER_ADDR": "10.1.1.1", "MASTER_PORT": "4000"})
    assert world.endpoint == "10.1.1.1:4000"


def test_without_a_launcher_there_is_one_rank() -> None:
    assert World() == World.from_environment({"DS_ACCELERATOR": "cpu"})


@pytest.mark.parametrize(
    ("environment", "external"),
    [
        (TORCHRUN, True),
        (SRUN, True),
        ({}, False),
        ({"RANK": "0", "WORLD_SIZE": "1"}, False),
        ({"RANK": "", "WORLD_SIZE": ""}, False),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, False),
        # The batch script of a job with eight tasks: it runs once.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "ENVIRONMENT": "BATCH"}, False),
        ({**SRUN, "SLURM_STEP_ID": "4294967291"}, False),
        # The shell of `salloc -n 5`, with and without a step of its own.
        ({**SRUN, "SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"SLURM_NTASKS": "5", "SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "n1"}, False),
        # `srun -n 1` in it, and `srun -n 5` with fewer tasks by default.
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, False),
        ({**SRUN, "SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "5"}, True),
        # A batch script that exports a size for its tasks, which each have their place from srun.
        ({**SRUN, "WORLD_SIZE": "5", "MASTER_ADDR": "gpu07"}, True),
        # torchrun within a task of srun.
        ({**SRUN, "RANK": "0", "WORLD_SIZE": "1"}, False),
        ({"OMPI_COMM_WORLD_SIZE": "1", "PMI_SIZE": "1"}, False),
    ],
)
def test_external_world_is_one_of_several_ranks(environment: dict[str, str], external: bool) -> None:
    assert in_external_world(environment) == external


@pytest.mark.parametrize(
    ("change", "bounds"),
    [
        ({"RANK": "four"}, "from 0 to 3"),
        ({"RANK": "4"}, "from 0 to 3"),
        ({"RANK": "-1"}, "from 0 to 3"),
        ({"LOCAL_RANK": "2"}, "from 0 to 1"),
        ({"LOCAL_WORLD_SIZE": "5"}, "from 1 to 4"),
        ({"WORLD_SIZE": "0"}, "of at least 1"),
        ({"WORLD_SIZE": "4_0"}, "of at least 1"),
        ({"MASTER_PORT": "65536"}, "from 1 to 65535"),
        ({"MASTER_PORT": "9" * 5000}, "from 1 to 65535"),
    ],
)
def test_impossible_number_is_refused_with_its_bounds(change: dict[str, str], bounds: str) -> None:
    ((name, value),) = change.items()
    with pytest.raises(ConfigError) as refused:
        in_external_world({**TORCHRUN, **change})
    assert f"{name}={value!r}, which must be a number {bounds}" in str(refused.value)


@pytest.mark.parametrize("name", ["SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_JOB_ID", "SLURM_NTASKS"])
def test_impossible_number_of_slurms_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}='many'"):
        in_external_world({**SRUN, name: "many"})


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"WORLD_SIZE": "4"}, "says WORLD_SIZE=4, but nothing of RANK"),
        ({"RANK": "1"}, "says RANK=1, but nothing of WORLD_SIZE"),
        ({"RANK": "1", "WORLD_SIZE": "4"}, "nothing of LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT"),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "mpirun started 4 processes (OMPI_COMM_WORLD_SIZE)"),
        ({"PMI_SIZE": "2"}, "mpirun started 2 processes (PMI_SIZE)"),
        ({name: value for name, value in SRUN.items() if name != "SLURM_LOCALID"}, "nothing of SLURM_LOCALID"),
    ],
)
def test_half_a_world_is_refused_until_the_process_is_told_to_stand_alone(
    environment: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        in_external_world(environment)
    assert said in str(refused.value)
    assert str(refused.value).endswith("or give --ranks N to train on ranks of this process's own.")
    if "`unset " in str(refused.value):
        unset = str(refused.value).partition("`unset ")[2].partition("`")[0].split()
        assert not in_external_world({name: value for name, value in environment.items() if name not in unset})
    stand_alone(environment)
    assert not in_external_world(environment)


@pytest.mark.parametrize("environment", [TORCHRUN, SRUN])
def test_process_that_stands_alone_is_in_no_world(environment: dict[str, str]) -> None:
    alone = dict(environment)
    stand_alone(alone)
    assert not in_external_world(alone)
    assert World.from_environment(alone) == World()


@pytest.mark.parametrize(
    ("environment", "source"),
    [
        (TORCHRUN, "WORLD_SIZE=4"),
        (SRUN, "SLURM_NTASKS=5 on gpu[07-09]"),
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "5", "SLURM_STEP_NODELIST": "gpu07"}, "SLURM_STEP_NUM_TASKS=5 on gpu07"),
        ({**TORCHRUN, PARENT: "1"}, ""),
    ],
)
def test_source_says_where_the_number_of_ranks_comes_from(environment: dict[str, str], source: str) -> None:
    assert World.from_environment(environment).source == source


@pytest.mark.parametrize("missing", ["LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_incomplete_environment_names_what_is_missing(missing: str) -> None:
    with pytest.raises(ConfigError, match=missing):
        World.from_environment({name: value for name, value in TORCHRUN.items() if name != missing})


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("solo", "solo"), ("a,b", "a"), ("gpu[07-09,12],big1", "gpu07"), ("n[3,5]", "n3"), ("r[1-2]n[3-4]", "r1n3")],
)
def test_first_host_of_a_slurm_node_list(nodes: str, first: str) -> None:
    assert first == first_host(nodes)


def test_interface_towards_loopback_is_lo() -> None:
    assert interface_towards("127.0.0.1") == "lo"


def test_unknown_master_name_is_refused() -> None:
    with pytest.raises(EnvironmentFault, match=r"no-such-host\.invalid"):
        interface_towards("no-such-host.invalid")


def test_listening_socket_is_on_the_given_address_only() -> None:
    with listening_socket("127.0.0.1", 0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_taken_port_is_refused_by_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(EnvironmentFault, match=f"127.0.0.1:{port}"):
            listening_socket("127.0.0.1", port)
