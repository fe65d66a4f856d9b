"""Ranks find each other and become one process group, or say within the start-up time who did not come."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import HashStore, PrefixStore, Store, TCPStore, distributed_c10d  # type: ignore[attr-defined]

from pipeline.errors import EnvironmentFault
from pipeline.training.world import LISTENER, World, interface_towards, listening_socket, resolved

ANSWER_SECONDS = 15  # for rank 0's verdict to reach the others after its own wait
GO = "go"


def join(world: World, *, startup_seconds: int) -> Store:
    """Make this process one rank of the group that DeepSpeed and torch.distributed use; returns the ranks' store.

    Waits `startup_seconds` for the others, which is also the timeout of collectives until `set_timeout`.
    Raises EnvironmentFault, on every rank that can still hear it, naming who is missing.
    """
    store = _meet(world, startup_seconds)
    if world.device == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
        if world.world_size > 1 and (interface := interface_towards(world.master_address)):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    else:
        torch.cuda.set_device(world.device)
    timeout = timedelta(seconds=startup_seconds)
    dist.init_process_group(
        _backend(world),
        store=PrefixStore("group", store),
        rank=world.rank,
        world_size=world.world_size,
        timeout=timeout,
    )
    _tell_deepspeed(world, timeout)
    return store


def set_timeout(seconds: int) -> None:
    """How long collectives of every existing group wait for a silent rank from now on."""
    for group in list(distributed_c10d._world.pg_map):
        distributed_c10d._set_pg_timeout(timedelta(seconds=seconds), group)


def largest(value: int, world: World) -> int:
    """The largest of the ranks' values, on every rank."""
    tensor = torch.tensor(value, dtype=torch.int64, device=world.device)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return int(tensor.item())


def leave() -> None:
    """Give up the process group, after every rank arrived here."""
    dist.barrier()
    dist.destroy_process_group()


def _backend(world: World) -> str:
    return "gloo" if world.device == "cpu" else "nccl"


def _tell_deepspeed(world: World, timeout: timedelta) -> None:
    import deepspeed

    # On a CPU, DeepSpeed 0.19.8 compiles a shared-memory all-reduce when it starts: over a minute, a compiler on every
    # node, and a lock file that blocks every later start if the compilation is killed. Only its inference would use it.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend=_backend(world), auto_mpi_discovery=False, verbose=False, timeout=timeout)


def _meet(world: World, seconds: int) -> Store:
    if world.world_size == 1:
        return HashStore()
    store = _store(world, seconds)
    store.set(f"arrived/{world.rank}", socket.gethostname())
    if world.leads:
        missing = _missing(store, world.world_size, seconds)
        verdict = _absence(world, missing, seconds) if missing else GO
        store.set("verdict", verdict)
    else:
        verdict = _verdict(store, seconds) or _absence(world, [0], seconds)
    if verdict != GO:
        raise EnvironmentFault(
            verdict,
            remedy="Start every node with the same MASTER_ADDR, MASTER_PORT and number of ranks; check firewalls.",
        )
    return store


def _store(world: World, seconds: int) -> Store:
    """The key-value server at the master's address; rank 0 serves it unless torchrun's agent already does."""
    serves = world.leads and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    resolved(world.master_address, world.master_port)
    try:
        return TCPStore(
            world.master_address,
            world.master_port,
            None,
            serves,
            timedelta(seconds=seconds),
            wait_for_workers=False,
            master_listen_fd=_listener(world) if serves else None,
        )
    except dist.DistNetworkError as error:
        raise EnvironmentFault(
            f"Rank {world.rank} of {world.world_size} on {socket.gethostname()} did not reach the master at "
            f"{world.endpoint} within {seconds} s.{_hint(world)}",
            remedy="Check MASTER_ADDR, MASTER_PORT, that rank 0 runs there, and the firewall between the nodes.",
        ) from error


def _listener(world: World) -> int:
    inherited = os.environ.get(LISTENER)
    return int(inherited) if inherited else listening_socket(world.master_address, world.master_port).detach()


def _missing(store: Store, world_size: int, seconds: int) -> list[int]:
    """Ranks that did not arrive in time."""
    keys = [f"arrived/{rank}" for rank in range(world_size)]
    try:
        store.wait(keys, timedelta(seconds=seconds))
    except dist.DistStoreError:
        return [rank for rank, key in enumerate(keys) if not store.check([key])]
    return []


def _verdict(store: Store, seconds: int) -> str | None:
    try:
        store.wait(["verdict"], timedelta(seconds=seconds + ANSWER_SECONDS))
        return str(store.get("verdict"), "utf-8")
    except (dist.DistStoreError, dist.DistNetworkError):
        return None


def _absence(world: World, missing: Sequence[int], seconds: int) -> str:
    names = ", ".join(map(str, missing))
    return (
        f"Only {world.world_size - len(missing)} of {world.world_size} ranks met at {world.endpoint} within "
        f"{seconds} s: rank {names} did not come.{_hint(world)}"
    )


def _hint(world: World) -> str:
    address = resolved(world.master_address)[4][0]
    local = address.startswith("127.") or address == "::1"
    return (
        f" {world.master_address} is {address}, which other machines cannot reach."
        if local and not world.on_one_machine
        else ""
    )
