"""A DeepSpeed hostfile, read strictly: DeepSpeed itself reads a missing one as "this machine only"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ConfigError

# Names reach ssh as arguments: one that began with a dash would be an option, one with `;` a command.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
REMEDY = "Write one host a line, such as `node1 slots=4`."


@dataclass(frozen=True)
class Host:
    """One machine and how many ranks it runs."""

    name: str
    slots: int


def read_hostfile(path: Path) -> tuple[Host, ...]:
    """Hosts in file order; rank 0 is on the first. Raises ConfigError naming the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Hostfile {path} cannot be read: {error}.", remedy=REMEDY) from error
    hosts: dict[str, Host] = {}
    for number, line in enumerate(lines, start=1):
        text = line.split("#")[0].strip()
        if not text:
            continue
        host = _host(text, f"{path}, line {number}")
        if host.name in hosts:
            raise ConfigError(f"{path}, line {number}: host {host.name} appears twice.", remedy="Add up its slots.")
        hosts[host.name] = host
    if not hosts:
        raise ConfigError(f"Hostfile {path} names no host.", remedy=REMEDY)
    return tuple(hosts.values())


def _host(text: str, where: str) -> Host:
    """The host of one line without its comment; `where` names the line in messages."""
    name, rest = (*text.split(maxsplit=1), "")[:2]
    if not NAME.fullmatch(name):
        raise ConfigError(f"{where}: {name!r} is not a host name.", remedy=REMEDY)
    slots = re.fullmatch(r"slots=([1-9][0-9]*)", rest)
    if slots is None:
        raise ConfigError(f"{where}: {rest!r} after host {name} is not slots=NUMBER.", remedy=REMEDY)
    return Host(name, int(slots[1]))
