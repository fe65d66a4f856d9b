"""Where a rank stands, as each launcher's environment says it."""

from __future__ import annotations

import socket

import pytest

from pipeline.distributed.world import World, first_host, in_external_world, interface_towards, listening_socket
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
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, False),
        # The batch script of a job with eight tasks: it runs once.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "ENVIRONMENT": "BATCH"}, False),
    ],
)
def test_external_world_is_one_of_several_ranks(environment: dict[str, str], external: bool) -> None:
    assert in_external_world(environment) == external


@pytest.mark.parametrize(
    "change", [{"RANK": "four"}, {"RANK": "4"}, {"RANK": "-1"}, {"LOCAL_RANK": "2"}, {"MASTER_PORT": ""}]
)
def test_impossible_environment_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        World.from_environment({**TORCHRUN, **change})


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
