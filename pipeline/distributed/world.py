"""Which rank this process is, as its environment says: Folio, torchrun, deepspeed, srun or nothing started it.

A process joins a world only if it was started as a task of it. The shell of an allocation (`salloc`, a batch script)
has many of the same variables, and stands alone; half of a world's variables are refused.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field, replace

import psutil

from pipeline.distributed.signals import PARENT
from pipeline.errors import ConfigError, EnvironmentFault

FIRST_PORT, NUM_PORTS = 20_000, 10_000  # below 32,768, where Linux begins to take ports for outgoing connections
MAX_PORT = 65_535
LOOPBACK = "127.0.0.1"
LISTENER = "FOLIO_LISTENER"  # environment variable: descriptor of the socket that the launcher opened for rank 0


# Tells of a rank that it is one of several; without these a process stands alone.
TORCH_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "LOCAL_SIZE")
SLURM_TASK = "SLURM_PROCID"
# How many processes mpirun started: Open MPI's, MPICH's and MVAPICH's.
MPI_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
# Slurm's numbers for what is no step of srun's: the shell of an allocation, a batch script, and two that run nothing.
SPECIAL_STEPS = ("4294967290", "4294967291", "4294967292", "4294967293")
OWN_RANKS = "give --ranks N to train on ranks of this process's own."  # the end of a remedy; see `stand_alone`


@dataclass(frozen=True)
class World:
    """The place of one rank among all. Rank 0's host is the master; `device` is "cpu" or "cuda:N".

    The local rank and the local world size count the ranks of this rank's host. `source` says, for messages, where the
    number of ranks comes from; it is empty where Folio itself started them here.
    """

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    local_world_size: int = 1
    device: str = "cpu"
    master_address: str = LOOPBACK
    master_port: int = 0
    source: str = field(default="", compare=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> World:
        """This process's place; a single rank if no variable says otherwise.

        Raises ConfigError for an incomplete or impossible environment.
        """
        world = _place(environment) or World()
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
    """Whether torchrun, deepspeed or srun started several of us, so that we join them instead of launching ranks.

    Raises ConfigError for an incomplete or impossible environment.
    """
    return _place(environment) is not None


def stand_alone(environment: MutableMapping[str, str] = os.environ) -> None:
    """Belong to no world from here on: the command line says itself how many ranks there are."""
    for name in (*TORCH_VARIABLES, SLURM_TASK, *MPI_SIZES):
        environment.pop(name, None)


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


def _place(environment: Mapping[str, str]) -> World | None:
    """This process among several ranks, its device left open; None if it stands alone. Raises ConfigError."""
    environment = {name: value for name, value in environment.items() if value}
    # A launcher's own variables before those of the step of Slurm's that it was started in.
    if "RANK" in environment and "WORLD_SIZE" in environment:
        world = _torch_world(environment)
    elif _num_slurm_tasks(environment) > 1:
        world = _slurm_world(environment)
    else:
        _refuse_half_a_world(environment)
        return None
    # One rank of one is no different from an ordinary call, and may itself launch as many ranks as the config says.
    return world if world.world_size > 1 else None


def _torch_world(environment: Mapping[str, str]) -> World:
    """The variables that torchrun, deepspeed and Folio itself set."""
    size = _number(environment, "WORLD_SIZE", 1)
    if size == 1:
        return World()  # a single rank meets nobody, so it needs no master
    # torchrun says LOCAL_WORLD_SIZE, deepspeed's launcher LOCAL_SIZE.
    local_size_name = "LOCAL_SIZE" if "LOCAL_SIZE" in environment else "LOCAL_WORLD_SIZE"
    _refuse_missing(environment, f"WORLD_SIZE={size}", "LOCAL_RANK", local_size_name, "MASTER_ADDR", "MASTER_PORT")
    local_size = _number(environment, local_size_name, 1, size)
    return World(
        rank=_number(environment, "RANK", 0, size - 1),
        local_rank=_number(environment, "LOCAL_RANK", 0, local_size - 1),
        world_size=size,
        local_world_size=local_size,
        master_address=environment["MASTER_ADDR"],
        master_port=_number(environment, "MASTER_PORT", 1, MAX_PORT),
        source="" if PARENT in environment else f"WORLD_SIZE={size}",
    )


def _slurm_world(environment: Mapping[str, str]) -> World:
    """The variables that srun sets for each task."""
    size = _num_slurm_tasks(environment)
    source = f"{_tasks_name(environment)}={size}"
    _refuse_missing(environment, source, "SLURM_LOCALID", "SLURM_JOB_NODELIST")
    # The step's own values where srun gives them: a step may use fewer nodes and tasks than its job has.
    nodes = environment.get("SLURM_STEP_NODELIST") or environment["SLURM_JOB_NODELIST"]
    tasks = environment.get("SLURM_STEP_TASKS_PER_NODE") or environment.get("SLURM_TASKS_PER_NODE", "")
    local_size = _tasks_of_node(tasks, _number(environment, "SLURM_NODEID", 0)) or size
    # Slurm hands out no port. One made from job and step is the same on every node, and another for a neighbour's job.
    job = _number(environment, "SLURM_JOB_ID", 0) + _number(environment, "SLURM_STEP_ID", 0)
    given = environment.get("MASTER_PORT")
    return World(
        rank=_number(environment, SLURM_TASK, 0, size - 1),
        local_rank=_number(environment, "SLURM_LOCALID", 0, local_size - 1),
        world_size=size,
        local_world_size=local_size,
        master_address=environment.get("MASTER_ADDR") or first_host(nodes),
        master_port=_number(environment, "MASTER_PORT", 1, MAX_PORT) if given else FIRST_PORT + job % NUM_PORTS,
        source=f"{source} on {nodes}",
    )


def _num_slurm_tasks(environment: Mapping[str, str]) -> int:
    """How many tasks srun started in this process's step; 1 for the shell of an allocation and outside of Slurm."""
    # A batch script and an interactive shell are called task 0 of all that the job may have, although they run alone.
    step = environment.get("SLURM_STEP_ID")
    if SLURM_TASK not in environment or step is None or step in SPECIAL_STEPS:
        return 1
    return _number(environment, _tasks_name(environment), 1)


def _tasks_name(environment: Mapping[str, str]) -> str:
    # The job's number of tasks is that of a step only where nobody asked for another.
    return "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environment else "SLURM_NTASKS"


def _refuse_half_a_world(environment: Mapping[str, str]) -> None:
    """Raise ConfigError where several processes were started, or seem to be, and none could find the others."""
    size = environment.get("WORLD_SIZE", "1")
    if "RANK" in environment or size != "1":
        said, missing = (f"WORLD_SIZE={size}", "RANK") if size != "1" else (f"RANK={environment['RANK']}", "WORLD_SIZE")
        raise _half_a_world(environment, said, missing)
    for name in MPI_SIZES:
        if environment.get(name, "1") != "1":
            raise ConfigError(
                f"mpirun started {environment[name]} processes ({name}), and Folio does not join MPI's worlds.",
                remedy=f"Start one without mpirun, or all with torchrun or srun; or {OWN_RANKS}",
            )


def _refuse_missing(environment: Mapping[str, str], said: str, *names: str) -> None:
    missing = [name for name in names if not environment.get(name)]
    if missing:
        raise _half_a_world(environment, said, ", ".join(missing))


def _half_a_world(environment: Mapping[str, str], said: str, missing: str) -> ConfigError:
    # Everything that makes a task of this process: without one of several variables the next one would be refused.
    telling = " ".join(name for name in ("RANK", "WORLD_SIZE", SLURM_TASK) if name in environment)
    return ConfigError(
        f"The environment says {said}, but nothing of {missing}, which launchers set for each rank.",
        remedy=f"Start every rank with torchrun or srun; or `unset {telling}`; or {OWN_RANKS}",
    )


def _number(environment: Mapping[str, str], name: str, low: int, high: int | None = None) -> int:
    """The number in a variable, `low` where it is not set. Raises ConfigError outside of low to high."""
    text = environment.get(name, str(low))
    # Not `int` alone, which also reads "1_000", " 1" and digits of other scripts.
    number = int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else low - 1
    if number < low or (high is not None and number > high):
        bounds = f"from {low} to {high}" if high is not None else f"of at least {low}"
        raise ConfigError(
            f"The environment says {name}={text!r}, which must be a number {bounds}.",
            remedy=f"Start every rank with torchrun or srun, which set it; or {OWN_RANKS}",
        )
    return number


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
