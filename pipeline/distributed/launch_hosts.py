"""Starts ranks on the hosts of a hostfile with DeepSpeed's launcher: pdsh over ssh, the artifact on shared storage.

The launcher's exit code says little (it is 0 when its child is killed), so the ranks' own notes decide what happened.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.distributed.exit_status import LAUNCHER_LOG, RankExits, counts_or_error
from pipeline.distributed.hostfile import Host, read_hostfile
from pipeline.distributed.job import Job
from pipeline.distributed.launch_local import stop_signals_relayed
from pipeline.distributed.world import FIRST_PORT, NUM_PORTS
from pipeline.errors import ConfigError, EnvironmentFault
from pipeline.runtime.processes import die_with_parent

CONNECT_SECONDS = 10
UNREACHABLE = 255  # ssh's exit code for "no connection", as opposed to the remote command's
# Variables that DeepSpeed's launcher (0.19.8) writes onto the command line of every host, where any user can read them.
# MLflow's hold a password or a token, and Folio has no use for them.
WRITTEN_OUT = "MLFLOW"
PLAIN = re.compile(r"[\w@%+=:,./-]+")  # characters that a shell leaves alone


def run_on_hosts(job: Job, hostfile: Path) -> dict[str, Any]:
    """Do the job with the hostfile's ranks; returns rank 0's counts.

    Raises ConfigError for a bad hostfile or a path that a remote shell would change, EnvironmentFault for a host that
    ssh does not reach or that does not see the artifact, and otherwise what `run_local_ranks` raises.
    """
    hosts = read_hostfile(hostfile)
    refuse_special_characters(str(job.path), sys.executable)
    check_hosts(hosts, job.path)
    launcher = _start_launcher(job, hostfile)
    # No signal of ours reaches a rank on another host, so the first one becomes a file that every rank looks for.
    with stop_signals_relayed(ask=lambda number: job.stop_file.touch(), end=launcher.terminate) as signals:
        _relay_output(launcher, hosts[0], job.logs / LAUNCHER_LOG)
    return counts_or_error(job, RankExits({}, {}), signals)


def check_hosts(hosts: Sequence[Host], path: Path) -> None:
    """Ask every host at once over ssh whether it sees `path`. Raises EnvironmentFault naming those that do not."""
    for tool in ("ssh", "pdsh"):
        if shutil.which(tool) is None:
            raise EnvironmentFault(f"{tool} is not installed on this machine.", remedy=f"Install {tool} on every host.")
    # In batch mode ssh fails where it would ask for a password, which nobody could answer.
    options = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_SECONDS}"]
    command = f"test -r {path}"
    processes = [
        subprocess.Popen(["ssh", *options, host.name, command], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for host in hosts
    ]
    faults = []
    for host, process in zip(hosts, processes, strict=True):
        lines = process.communicate()[1].decode(errors="replace").strip().splitlines()
        if process.returncode == UNREACHABLE:
            faults.append(f"{host.name} is not reachable by ssh ({lines[-1] if lines else 'no answer'})")
        elif process.returncode != 0:
            faults.append(f"{host.name} does not see {path}")
    if faults:
        remedy = "Every host needs ssh without a password and the artifact store at the same path."
        raise EnvironmentFault("; ".join(faults) + ".", remedy=remedy)


def refuse_special_characters(*paths: str) -> None:
    """Raise ConfigError for a path that the remote shell would interpret."""
    # DeepSpeed's launcher pastes the command line together for pdsh, whose remote shell then takes it apart again.
    for path in paths:
        if not PLAIN.fullmatch(path):
            raise ConfigError(
                f"The path {path!r} has characters that a remote shell would interpret.", remedy="Use a plain path."
            )


def _start_launcher(job: Job, hostfile: Path) -> subprocess.Popen[bytes]:
    """DeepSpeed's launcher: its stdout in a log, its stderr a pipe that carries every rank's stderr."""
    # Whether the port is free on the first host cannot be seen from here; a random one collides seldom.
    port = job.launch.port or random.randrange(FIRST_PORT, FIRST_PORT + NUM_PORTS)
    command = [sys.executable, "-m", "deepspeed.launcher.runner", "--launcher", "pdsh"]
    command += ["--hostfile", str(hostfile.resolve())]
    # Also over ssh where the hostfile names one host only; and `check_hosts` has asked them all, with better messages.
    command += ["--force_multi", "--no_ssh_check", "--master_port", str(port)]
    if "MASTER_ADDR" in os.environ:
        command += ["--master_addr", os.environ["MASTER_ADDR"]]
    command += ["--no_local_rank", "--module", "pipeline.distributed.start_rank", str(job.path)]
    log = (job.logs / LAUNCHER_LOG).open("wb")
    with log:
        return subprocess.Popen(
            command,
            # The launcher has every host change to the folder that it was started in, and Python looks for modules
            # there. The user's may hold a `deepspeed.py`; and this one is there on every host.
            cwd=job.folder,
            env={name: value for name, value in os.environ.items() if not name.startswith(WRITTEN_OUT)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on once
            # Asked to terminate, the launcher ends the ranks on every host.
            preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGTERM),  # noqa: PLW1509 - one call to prctl
        )


def _relay_output(launcher: subprocess.Popen[bytes], first_host: Host, log: Path) -> None:
    """Show rank 0's stderr until the launcher ends, and keep everything in the log: why a host failed stands there."""
    assert launcher.stderr is not None, "the launcher was started with a pipe"
    prefix = f"{first_host.name}: ".encode()  # pdsh puts it before each line
    with log.open("ab") as file:
        for line in launcher.stderr:
            if line.startswith(prefix):
                sys.stderr.buffer.write(line.removeprefix(prefix))
                sys.stderr.flush()
            file.write(line)
    launcher.wait()
