"""Which rank this process is, as its environment says: Folio, torchrun, deepspeed, srun or nothing started it."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace

import psutil

from pipeline.errors import ConfigError, EnvironmentFault

FIRST_PORT, NUM_PORTS = 20_000, 10_000  # below 32,768, where Linux begins to take ports for outgoing connections
LOOPBACK = "127.0.0.1"
LISTENER = "FOLIO_LISTENER"  # environment variable: descriptor of the socket that the launcher opened for rank 0


@dataclass(frozen=True)
class World:
    """The place of one rank among all. Rank 0's host is the master; `device` is "cpu" or "cuda:N".

    The local rank and the local world size count the ranks of this rank's host.
    """

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    local_world_size: int = 1
    device: str = "cpu"
    master_address: str = LOOPBACK
    master_port: int = 0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> World:
        """This process's place; a single rank if no variable says otherwise.

        Raises ConfigError for an incomplete or impossible environment.
        """
        try:
            world = _from_variables(environment)
        except (KeyError, ValueError) as error:
            raise ConfigError(
                f"The variables that a launcher sets for each rank are incomplete or wrong: {error}.",
                remedy="Start ranks with folio run, torchrun, deepspeed or srun.",
            ) from None
        if not 0 <= world.rank < world.world_size or not 0 <= world.local_rank < world.local_world_size:
            raise ConfigError(f"The environment says rank {world.rank} of {world.world_size} ranks.")
        return replace(world, device=_device(world.local_rank, environment))

    @property
    def endpoint(self) -> str:
        """Where the ranks meet, for messages."""
        return f"{self.master_address}:{self.master_port}"

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which writes results, shows progress and decides for all."""
        return self.rank == 0

    @property
    def on_one_machine(self) -> bool:
        """Whether all ranks run on this host."""
        return self.local_world_size == self.world_size


def in_external_world(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether torchrun, deepspeed or srun started several of us, so that we join them instead of launching ranks."""
    # One rank of one is no different from an ordinary call, and may itself launch as many ranks as the config says.
    several = "RANK" in environment and environment.get("WORLD_SIZE", "1") != "1"
    return several or _in_slurm_step(environment)


def interface_towards(address: str) -> str | None:
    """Name of the network interface that this host would use to talk to `address`; None if psutil does not list it.

    No packet is sent. Raises EnvironmentFault if the name is unknown or no route leads there.
    """
    family, _, _, _, target = resolved(address)
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            # Connecting a datagram socket only asks the routing table for the source address; port 9 is "discard".
            probe.connect((target[0], 9, *target[2:]))
        except OSError as error:
            raise EnvironmentFault(
                f"{socket.gethostname()} has no route to the master {address}: {error.strerror}.",
                remedy="Set MASTER_ADDR to an address that every node reaches.",
            ) from error
        own = probe.getsockname()[0]
    for name, addresses in psutil.net_if_addrs().items():
        # psutil writes link-local IPv6 addresses with their zone, as in fe80::1%eth0.
        if any(entry.address.split("%")[0] == own for entry in addresses):
            return str(name)
    return None


Resolved = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int] | tuple[str, int, int, int]]


def resolved(address: str, port: int = 0) -> Resolved:
    """Socket address of a host name, IPv4 first. Raises EnvironmentFault if the name is unknown."""
    try:
        answers = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise EnvironmentFault(
            f"{socket.gethostname()} cannot resolve the master's name {address}:{port} ({error.strerror}).",
            remedy="Set MASTER_ADDR to an address that every node reaches.",
        ) from error
    # The order of answers differs from host to host, and master and ranks must choose the same family.
    return min(answers, key=lambda answer: answer[0] != socket.AF_INET)  # type: ignore[return-value]


def listening_socket(address: str, port: int) -> socket.socket:
    """A socket on this address alone, never on all interfaces. Raises EnvironmentFault if the port is taken."""
    family, kind, protocol, _, target = resolved(address, port)
    listener = socket.socket(family, kind, protocol)
    # A port in TIME_WAIT, left by the attempt before, may be taken again at once; one in use may not.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(target)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise EnvironmentFault(
            f"{socket.gethostname()} cannot listen on {address}:{port}: {error.strerror}.",
            remedy="Choose another launch.port (MASTER_PORT), or an address of this host for MASTER_ADDR.",
        ) from error
    return listener


def _from_variables(environment: Mapping[str, str]) -> World:
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return _torch_world(environment)
    return _slurm_world(environment) if _in_slurm_step(environment) else World()


def _torch_world(environment: Mapping[str, str]) -> World:
    """The variables that torchrun, deepspeed and Folio itself set. Raises KeyError, ValueError."""
    rank, size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
    if size == 1:
        return World()  # a single rank meets nobody, so it needs no master
    return World(
        rank=rank,
        local_rank=int(environment["LOCAL_RANK"]),
        world_size=size,
        # torchrun says LOCAL_WORLD_SIZE, deepspeed's launcher LOCAL_SIZE.
        local_world_size=int(environment.get("LOCAL_WORLD_SIZE") or environment["LOCAL_SIZE"]),
        master_address=environment["MASTER_ADDR"],
        master_port=int(environment["MASTER_PORT"]),
    )


def _slurm_world(environment: Mapping[str, str]) -> World:
    """The variables that srun sets. Raises KeyError, ValueError."""
    # The step's own values where srun gives them: a step may use fewer nodes and tasks than its job has.
    nodes = environment.get("SLURM_STEP_NODELIST") or environment["SLURM_JOB_NODELIST"]
    tasks = environment.get("SLURM_STEP_TASKS_PER_NODE") or environment.get("SLURM_TASKS_PER_NODE", "")
    size, local_rank = int(environment["SLURM_NTASKS"]), int(environment["SLURM_LOCALID"])
    # Slurm hands out no port. One made from job and step is the same on every node, and another for a neighbour's job.
    job = int(environment.get("SLURM_JOB_ID", "0")) + int(environment.get("SLURM_STEP_ID", "0"))
    return World(
        rank=int(environment["SLURM_PROCID"]),
        local_rank=local_rank,
        world_size=size,
        local_world_size=_tasks_of_node(tasks, int(environment.get("SLURM_NODEID", "0"))) or size,
        master_address=environment.get("MASTER_ADDR") or first_host(nodes),
        master_port=int(environment.get("MASTER_PORT") or FIRST_PORT + job % NUM_PORTS),
    )


def _in_slurm_step(environment: Mapping[str, str]) -> bool:
    """Not in the batch script itself, which Slurm also calls task 0 of many although it runs alone."""
    alone = environment.get("ENVIRONMENT") == "BATCH" and "SLURM_STEP_ID" not in environment
    return "SLURM_PROCID" in environment and environment.get("SLURM_NTASKS", "1") != "1" and not alone


def first_host(nodes: str) -> str:
    """First name of a Slurm node list.

    >>> first_host("gpu[07-09,12],big1"), first_host("r[1-2]n[3-4]"), first_host("solo")
    ('gpu07', 'r1n3', 'solo')
    """
    shortened = re.sub(r"\[([^],-]+)[^]]*\]", r"\1", nodes)
    return shortened.split(",")[0]


def _tasks_of_node(counts: str, node: int) -> int | None:
    """Tasks of the node with this index, from Slurm's "2(x3),1"; None if the list does not say."""
    expanded: list[int] = []
    for number, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", counts):
        expanded += [int(number)] * int(times or 1)
    return expanded[node] if node < len(expanded) else None


def _device(local_rank: int, environment: Mapping[str, str]) -> str:
    """The device of a rank; DS_ACCELERATOR=cpu keeps it off the GPUs."""
    import torch  # takes seconds, and `in_external_world` does without

    if environment.get("DS_ACCELERATOR") == "cpu" or not torch.cuda.is_available():
        return "cpu"
    # Under srun --gpus-per-task each rank sees one device only, whatever its local rank.
    return f"cuda:{local_rank % torch.cuda.device_count()}"
