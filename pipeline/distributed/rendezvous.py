"""Ranks find each other and become one process group, or say within the start-up time who did not come.

torch's own rendezvous waits for many minutes, then fails on each rank with a stack trace that names nobody. Here the
ranks first meet in a key-value store that rank 0 serves, where it can see who is missing and tell the others; only a
complete set of ranks goes on to form the process group, which then takes no time.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

import torch
import torch.distributed as dist
from torch.distributed import HashStore, PrefixStore, Store, TCPStore, distributed_c10d  # type: ignore[attr-defined]

from pipeline.distributed.world import LISTENER, OWN_RANKS, World, interface_towards, listening_socket, resolved
from pipeline.errors import EnvironmentFault

VERDICT_SECONDS = 15  # for rank 0's verdict to reach the others after its own wait
CONNECT_SECONDS = 5  # for one attempt to reach the master
POLL_SECONDS = 0.1
NOTICE_SECONDS = 5  # between two lines about who is awaited
COMPLETE = "complete"  # the verdict when every rank arrived; any other verdict is the message of the refusal


def join(world: World, *, startup_seconds: int) -> None:
    """Make this process one rank of the group that DeepSpeed and torch.distributed use.

    Raises EnvironmentFault if the ranks do not find each other; see `meet` and `form_process_group`.
    """
    form_process_group(world, meet(world, startup_seconds), startup_seconds)


def meet(world: World, seconds: int) -> Store:
    """Wait until every rank reached the master; returns the ranks' shared key-value store.

    Raises EnvironmentFault, on every rank that can still hear it, naming the master's host and port and who is missing.
    """
    if world.world_size == 1:
        return HashStore()  # in memory: a single rank opens no port
    store = _connect(world, seconds)
    store.set(f"arrived/{world.rank}", socket.gethostname())
    if world.leads:
        missing = _missing_ranks(store, world, seconds)
        store.set("verdict", _absence(world, missing, seconds) if missing else COMPLETE)
        if missing:  # this process takes the store with it when it fails: let those who came read the verdict first
            readers = [f"heard/{rank}" for rank in range(1, world.world_size) if rank not in missing]
            wait_until(partial(store.check, readers), VERDICT_SECONDS)
    # The others began to wait before rank 0 did, at worst, so they must wait longer than it does.
    verdict = _read_verdict(world, store, seconds + VERDICT_SECONDS) or _absence(world, [0], seconds)
    if verdict != COMPLETE:
        raise EnvironmentFault(
            verdict,
            remedy="Start every node with the same MASTER_ADDR, MASTER_PORT and number of ranks, check firewalls; "
            f"or {OWN_RANKS}",
        )
    return store


def form_process_group(world: World, store: Store, startup_seconds: int) -> None:
    """Form the process group among ranks that met. Collectives may take `startup_seconds` until `set_timeout`."""
    if world.device == "cpu":
        # DeepSpeed looks for accelerators on its own, and would choose one that this run is not to use.
        os.environ["DS_ACCELERATOR"] = "cpu"
        # Gloo listens on the address that the host's name resolves to, which on many hosts is a loopback that the
        # other hosts cannot reach. The interface that leads to the master is one that they can.
        if world.world_size > 1 and (interface := interface_towards(world.master_address)):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    else:
        # NCCL's barrier and object collectives use whichever device is current: else the first, on every rank.
        torch.cuda.set_device(world.device)
    backend = "gloo" if world.device == "cpu" else "nccl"
    timeout = timedelta(seconds=startup_seconds)
    dist.init_process_group(backend, store=store, rank=world.rank, world_size=world.world_size, timeout=timeout)


def set_timeout(seconds: int) -> None:
    """How long collectives of every existing group wait for a silent rank from now on."""
    # DeepSpeed makes groups of its own, each with the timeout of its birth. torch (2.10 to 2.13) has no public call
    # for either the list of groups or a group's timeout.
    for group in list(distributed_c10d._world.pg_map):
        distributed_c10d._set_pg_timeout(timedelta(seconds=seconds), group)


def leave() -> None:
    """Give up the process group, after every rank arrived here."""
    # Without the barrier a fast rank closes its sockets while a slow one still reads the last collective from them.
    dist.barrier()
    dist.destroy_process_group()


def wait_until(condition: Callable[[], bool], seconds: float, waiting_for: Callable[[], str] | None = None) -> bool:
    """Whether the condition came true within `seconds`; it is looked at ten times a second, and at least once.

    Every few seconds the operator reads what `waiting_for` returns, if it is given.
    """
    now = time.monotonic()
    deadline, next_notice = now + seconds, now + NOTICE_SECONDS
    while not condition():
        now = time.monotonic()
        if now > deadline:
            return False
        if waiting_for is not None and now > next_notice:
            next_notice = now + NOTICE_SECONDS
            print(f"waiting for {waiting_for()}", file=sys.stderr, flush=True)
        time.sleep(POLL_SECONDS)
    return True


def _connect(world: World, seconds: int) -> Store:
    """The key-value server at the master's address; rank 0 serves it unless torchrun's agent already does."""
    serves = world.leads and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    # TCPStore waits for its server too, but up to four times as long and with stack traces on stderr.
    # Of each node one rank says so; Folio's own ranks are watched by their launcher.
    awaited = f"rank 0 of {world.world_size} at {world.endpoint} ({world.source})"
    speaks = world.source and world.local_rank == 0
    if not serves and not wait_until(partial(_master_answers, world), seconds, (lambda: awaited) if speaks else None):
        raise _unreached(world, seconds)
    # Handed a listening socket, TCPStore serves on that one alone; by itself it listens on every interface.
    listener = _listener(world) if serves else None
    timeout = timedelta(seconds=seconds)
    address = (world.master_address, world.master_port)
    try:
        server = TCPStore(*address, None, serves, timeout, wait_for_workers=False, master_listen_fd=listener)
    except dist.DistError as error:  # something else answers there
        raise _unreached(world, seconds) from error
    # torchrun keeps one store over its restarts: what an earlier attempt left there must not be taken for this one's.
    return PrefixStore(f"folio/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", server)


def _unreached(world: World, seconds: int) -> EnvironmentFault:
    return EnvironmentFault(
        f"Rank {world.rank} of {world.world_size} on {socket.gethostname()} did not reach the master at "
        f"{world.endpoint} within {seconds} s{_source(world)}.{_loopback_hint(world)}",
        remedy="Check MASTER_ADDR, MASTER_PORT, that rank 0 runs there, and the firewall between the nodes; "
        f"or {OWN_RANKS}",
    )


def _master_answers(world: World) -> bool:
    family, kind, protocol, _, target = resolved(world.master_address, world.master_port)
    with socket.socket(family, kind, protocol) as probe:
        probe.settimeout(CONNECT_SECONDS)
        return probe.connect_ex(target) == 0


def _listener(world: World) -> int:
    """Descriptor of a socket that listens at the master's address: the launcher's, if it opened one for this rank."""
    inherited = os.environ.get(LISTENER)
    return int(inherited) if inherited else listening_socket(world.master_address, world.master_port).detach()


def _missing_ranks(store: Store, world: World, seconds: int) -> list[int]:
    """Ranks that did not arrive in time. Until then the operator reads every few seconds who is missing."""
    keys = [f"arrived/{rank}" for rank in range(world.world_size)]

    def missing() -> list[int]:
        return [rank for rank, key in enumerate(keys) if not store.check([key])]

    def awaited() -> str:
        return f"{len(missing())} of {world.world_size} ranks: {', '.join(map(str, missing()))} ({world.source})"

    everyone = wait_until(partial(store.check, keys), seconds, awaited if world.source else None)
    return [] if everyone else missing()


def _read_verdict(world: World, store: Store, seconds: int) -> str | None:
    """What rank 0 decided; None if it is gone or silent."""
    try:
        if not wait_until(partial(store.check, ["verdict"]), seconds):
            return None
        verdict = str(store.get("verdict"), "utf-8")
        store.set(f"heard/{world.rank}", "")  # rank 0 may go now
        return verdict
    except dist.DistError:  # the server went away in the middle
        return None


def _absence(world: World, missing: Sequence[int], seconds: int) -> str:
    names = ", ".join(map(str, missing))
    return (
        f"Only {world.world_size - len(missing)} of {world.world_size} ranks met at {world.endpoint} within "
        f"{seconds} s: rank {names} did not come{_source(world)}.{_loopback_hint(world)}"
    )


def _source(world: World) -> str:
    """Where the number of ranks comes from, as the end of a sentence."""
    return f" ({world.source})" if world.source else ""


def _loopback_hint(world: World) -> str:
    """The most frequent cause: a master's name that resolves to a loopback address, as Debian's /etc/hosts has it."""
    address = resolved(world.master_address)[4][0]
    loopback = address.startswith("127.") or address == "::1"
    return (
        f" {world.master_address} is {address}, which other machines cannot reach."
        if loopback and not world.on_one_machine
        else ""
    )
