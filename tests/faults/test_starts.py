"""However Folio is started, and in a folder full of modules with its own names: nothing there is imported.

Where a test says so it leaves PYTHONSAFEPATH out, which `folio` sets for its processes: that is all that Python 3.10,
which does not know the variable, would see.
"""

from __future__ import annotations

import re
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import FOLIO, ROOT, started

README = (ROOT / "README.md").read_text(encoding="utf-8")
# What Folio imports by these names, then what Python and multiprocessing import while they start.
OWN_NAMES = ("gpt", "cli", "pipeline/__init__", "datasets", "torch", "deepspeed", "numpy", "typer")
PYTHONS_NAMES = ("random", "pickle", "socket", "signal", "runpy", "re", "typing")
SHADOW = """
with open({mark!r}, "a") as file:
    print(__name__, file=file)
raise RuntimeError("somebody else's code")
"""


@pytest.fixture
def learners_folder(tmp_path: Path) -> Path:
    """A folder whose modules would all be noticed; it is the current one of whatever the tests start."""
    folder = tmp_path / "learner"
    for name in (*OWN_NAMES, *PYTHONS_NAMES):
        module = folder / f"{name}.py"
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_text(SHADOW.format(mark=str(folder / "SHADOWED")))
    return folder


def shadowed(folder: Path) -> list[str]:
    """The modules of the folder that somebody imported."""
    mark = folder / "SHADOWED"
    return mark.read_text().splitlines() if mark.exists() else []


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def line_of_readme(program: str) -> str:
    (line,) = re.findall(rf"^{program} .*? CONFIG", README, re.MULTILINE)
    return str(line)


def own_ranks(config: Path, folder: Path) -> list[str]:
    return [f"folio run {config} --ranks 2 --until pretrain"]


def torchrun_of_the_readme(config: Path, folder: Path) -> list[str]:
    """Both nodes, here, with one rank each."""
    line = line_of_readme("torchrun").replace("CONFIG", f"{config} --until pretrain")
    line = line.replace("--nproc-per-node 8", f"--nproc-per-node 1 --master-port {free_port()}")
    first = line.replace("node1", "127.0.0.1")
    return [first, first.replace("--node-rank 0", "--node-rank 1")]


SRUN = """#!/bin/sh
shift 2
export SLURM_JOB_ID=$$ SLURM_JOB_NODELIST=127.0.0.1 SLURM_STEP_ID=0 SLURM_NTASKS=2 SLURM_STEP_NUM_TASKS=2
export SLURM_STEP_TASKS_PER_NODE=2 SLURM_NODEID=0
SLURM_PROCID=1 SLURM_LOCALID=1 "$@" & SLURM_PROCID=0 SLURM_LOCALID=0 "$@" && wait $!
"""


def srun_of_the_readme(config: Path, folder: Path) -> list[str]:
    """A stand-in for srun, with two tasks."""
    srun = folder / "srun"
    srun.write_text(SRUN)
    srun.chmod(0o755)
    return [f"PATH={folder}:$PATH; {line_of_readme('srun').replace('CONFIG', f'{config} --until pretrain')}"]


@pytest.mark.slow
@pytest.mark.parametrize("start", [own_ranks, torchrun_of_the_readme, srun_of_the_readme])
def test_run_imports_nothing_from_the_current_folder(
    start: Callable[[Path, Path], list[str]], config: Path, learners_folder: Path
) -> None:
    processes = [started(command, learners_folder) for command in start(config, learners_folder)]
    said = [process.communicate(timeout=280)[1] for process in processes]
    assert shadowed(learners_folder) == [], said
    assert [process.returncode for process in processes] == [0] * len(processes), said
    assert len(list((learners_folder / "store").glob("pretrain-*/manifest.json"))) == 1


@pytest.mark.parametrize("path", ["", ":/nowhere", "/nowhere:.", "."])
def test_pythonpath_lets_the_current_folder_in_for_nobody_but_python_itself(path: str, tmp_path: Path) -> None:
    """What Python imports before `folio`'s first line cannot be helped: so no `cli` and no `re` among these names."""
    folder = tmp_path / "learner"
    folder.mkdir()
    for name in ("gpt", "datasets", "torch", "typer", "psutil"):
        (folder / f"{name}.py").write_text(SHADOW.format(mark=str(folder / "SHADOWED")))
    done = started("folio --help", folder, PYTHONPATH=path)
    said = done.communicate(timeout=60)
    assert (shadowed(folder), done.returncode) == ([], 0), said


def test_script_imports_nothing_from_its_own_folder(tmp_path: Path) -> None:
    """Such as ~/bin, where a user's own programs lie beside it."""
    script = shutil.copy(FOLIO, tmp_path / "folio")
    (tmp_path / "typer.py").write_text(SHADOW.format(mark=str(tmp_path / "SHADOWED")))
    process = started(f"{script} --help", tmp_path)
    said = process.communicate(timeout=60)[1]
    assert (process.returncode, said, shadowed(tmp_path)) == (0, "", [])


def test_ranks_import_nothing_from_the_current_folder_on_python_3_10(
    make_job: Callable[..., Any], launched: Callable[..., Any], learners_folder: Path
) -> None:
    here = ("env", "-u", "PYTHONSAFEPATH", "-C", str(learners_folder))
    assert launched(make_job(steps=2), here).end() == (0, "")
    assert shadowed(learners_folder) == []


POOL = """
import math, multiprocessing, sys
sys.path.insert(0, {root!r})
from pipeline.execution.worker_pool import worker_pool
from pipeline.runtime.processes import importing_nothing_from_here
if __name__ == "__main__":
    with worker_pool(2) as pool:
        print(list(pool.in_order(math.factorial, [3, 4])))
    # And a process that is no worker, such as the leader of an ablation's training.
    with importing_nothing_from_here():
        leader = multiprocessing.get_context("spawn").Process(target=print, args=(5,))
        leader.start()
    leader.join()
"""


def installed_pythons() -> list[str]:
    """This one, and other versions that are here: the standard library is all that a pool needs."""
    versions = ("3.10", "3.12", "3.13", "3.14")
    of_pyenv = [
        str(path) for version in versions for path in Path.home().glob(f".pyenv/versions/{version}.*/bin/python")
    ]
    return [sys.executable, *of_pyenv, *filter(None, map(shutil.which, (f"/usr/bin/python{it}" for it in versions)))]


@pytest.mark.parametrize("python", installed_pythons())
def test_spawned_processes_import_nothing_from_the_current_folder(
    python: str, learners_folder: Path, tmp_path: Path
) -> None:
    """Without PYTHONSAFEPATH, so that this Python goes the way of 3.10; and on 3.10 itself where there is one."""
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "pool.py"
    script.write_text(POOL.format(root=str(ROOT)))
    process = started(f"{python} {script}", learners_folder)
    said = process.communicate(timeout=60)
    assert (shadowed(learners_folder), said) == ([], ("[6, 24]\n5\n", ""))
