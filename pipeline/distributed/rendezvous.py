"""Ranks find each other and become one process group, or say within the start-up time who did not come."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

import torch
import torch.distributed as dist
from torch.distributed import HashStore, PrefixStore, Store, TCPStore, distributed_c10d  # type: ignore[attr-defined]

from pipeline.distributed.world import LISTENER, World, interface_towards, listening_socket, resolved
from pipeline.errors import EnvironmentFault

ANSWER_SECONDS = 15  # for rank 0's verdict to reach the others after its own wait
CONNECT_SECONDS = 5  # for one attempt to reach the master
LOOK_SECONDS = 0.1
GO = "go"


def join(world: World, *, startup_seconds: int) -> None:
    """Make this process one rank of the group that DeepSpeed and torch.distributed use; see `meet` and `unite`."""
    unite(world, meet(world, startup_seconds), startup_seconds)


def meet(world: World, seconds: int) -> Store:
    """Wait until every rank reached the master; returns the ranks' shared key-value store.

    Raises EnvironmentFault, on every rank that can still hear it, naming the master's host and port and who is missing.
    """
    if world.world_size == 1:
        return HashStore()
    store = _store(world, seconds)
    store.set(f"arrived/{world.rank}", socket.gethostname())
    if world.leads:
        missing = _missing(store, world.world_size, seconds)
        store.set("verdict", _absence(world, missing, seconds) if missing else GO)
        if missing:  # this process takes the store with it: let those who came hear the verdict
            heard = [f"heard/{rank}" for rank in range(1, world.world_size) if rank not in missing]
            within(ANSWER_SECONDS, partial(store.check, heard))
    verdict = _verdict(world, store, seconds + ANSWER_SECONDS) or _absence(world, [0], seconds)
    if verdict != GO:
        raise EnvironmentFault(
            verdict,
            remedy="Start every node with the same MASTER_ADDR, MASTER_PORT and number of ranks; check firewalls.",
        )
    return store


def unite(world: World, store: Store, startup_seconds: int) -> None:
    """Form the process group among ranks that met. Collectives may take `startup_seconds` until `set_timeout`."""
    if world.device == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
        if world.world_size > 1 and (interface := interface_towards(world.master_address)):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    else:
        torch.cuda.set_device(world.device)
    backend = "gloo" if world.device == "cpu" else "nccl"
    timeout = timedelta(seconds=startup_seconds)
    dist.init_process_group(backend, store=store, rank=world.rank, world_size=world.world_size, timeout=timeout)


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


def _store(world: World, seconds: int) -> Store:
    """The key-value server at the master's address; rank 0 serves it unless torchrun's agent already does."""
    serves = world.leads and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    # TCPStore waits for its server too, but up to four times as long and with stack traces on stderr.
    if not serves and not within(seconds, partial(_answers, world)):
        raise _unreached(world, seconds)
    listener = _listener(world) if serves else None
    limit = timedelta(seconds=seconds)
    address = (world.master_address, world.master_port)
    try:
        server = TCPStore(*address, None, serves, limit, wait_for_workers=False, master_listen_fd=listener)
    except dist.DistError as error:  # something else answers there
        raise _unreached(world, seconds) from error
    # torchrun keeps one store over its restarts: what an earlier attempt left there must not be taken for this one's.
    return PrefixStore(f"folio/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", server)


def _unreached(world: World, seconds: int) -> EnvironmentFault:
    return EnvironmentFault(
        f"Rank {world.rank} of {world.world_size} on {socket.gethostname()} did not reach the master at "
        f"{world.endpoint} within {seconds} s.{_hint(world)}",
        remedy="Check MASTER_ADDR, MASTER_PORT, that rank 0 runs there, and the firewall between the nodes.",
    )


def _answers(world: World) -> bool:
    family, kind, protocol, _, target = resolved(world.master_address, world.master_port)
    with socket.socket(family, kind, protocol) as probe:
        probe.settimeout(CONNECT_SECONDS)
        return probe.connect_ex(target) == 0


def _listener(world: World) -> int:
    inherited = os.environ.get(LISTENER)
    return int(inherited) if inherited else listening_socket(world.master_address, world.master_port).detach()


def _missing(store: Store, world_size: int, seconds: int) -> list[int]:
    """Ranks that did not arrive in time."""
    keys = [f"arrived/{rank}" for rank in range(world_size)]
    everyone = within(seconds, partial(store.check, keys))
    return [] if everyone else [rank for rank, key in enumerate(keys) if not store.check([key])]


def _verdict(world: World, store: Store, seconds: int) -> str | None:
    """What rank 0 decided; None if it is gone or silent."""
    try:
        if not within(seconds, partial(store.check, ["verdict"])):
            return None
        verdict = str(store.get("verdict"), "utf-8")
        store.set(f"heard/{world.rank}", "")
        return verdict
    except dist.DistError:
        return None


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether the condition came true in time, looking at it again and again."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True


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
