"""However Folio is started: in a folder full of modules with its own names, and stopped before it has begun.

Where a test says so it leaves PYTHONSAFEPATH out, which `folio` sets for its processes: that is all that Python 3.10,
which does not know the variable, would see.
"""

from __future__ import annotations

import os
import pydoc_data.topics
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parents[2]
FOLIO = Path(sys.executable).with_name("folio")
README = (ROOT / "README.md").read_text(encoding="utf-8")
# What Folio imports by these names, then what Python and multiprocessing import while they start.
OWN_NAMES = ("gpt", "cli", "pipeline/__init__", "datasets", "torch", "deepspeed", "numpy", "typer")
PYTHONS_NAMES = ("random", "pickle", "socket", "signal", "runpy", "re", "typing")
SHADOW = """
with open({mark!r}, "a") as file:
    print(__name__, file=file)
raise RuntimeError("somebody else's code")
"""
CONFIG = """
name: small
target: {{path: "{folder}/target.txt"}}
corpus:
  sources: [{{name: texts, path: "{folder}/corpus/*.txt"}}]
  validation: 15%
tokenizer: {{vocab_size: 320, sample_bytes: 200KB}}
model: {{layers: 1, width: 32, heads: 2, context: 32}}
pretrain: {{tokens: 4096, batch_tokens: 1024, micro_batch: 16, learning_rate: 1e-2, evaluate_every: 10, save_every: 5,
           evaluate_tokens: 2k}}
launch: {{threads: 1, workers: 2}}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of seconds."""
    folder = tmp_path_factory.mktemp("run")
    text = "\n".join(text for _, text in sorted(pydoc_data.topics.topics.items()))
    (folder / "target.txt").write_text(text[:40_000])
    (folder / "corpus").mkdir()
    for number, start in enumerate(range(60_000, 260_000, 5_000)):
        (folder / "corpus" / f"{number:02d}.txt").write_text(text[start : start + 5_000])
    (folder / "small.yaml").write_text(CONFIG.format(folder=folder))
    return folder / "small.yaml"


@pytest.fixture
def learners_folder(tmp_path: Path) -> Path:
    """A folder whose modules would all be noticed; it is the current one of whatever the tests start."""
    folder = tmp_path / "learner"
    for name in (*OWN_NAMES, *PYTHONS_NAMES):
        module = folder / f"{name}.py"
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_text(SHADOW.format(mark=str(folder / "SHADOWED")))
    return folder


def environment(**changes: str) -> dict[str, str]:
    """A shell's, with `folio` in the PATH."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONSAFEPATH", "PYTHONPATH")}
    return {**kept, "PATH": f"{FOLIO.parent}:{os.environ['PATH']}", "DS_ACCELERATOR": "cpu", **changes}


def started(command: str, folder: Path, **changes: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["/bin/sh", "-c", command],
        cwd=folder,
        env=environment(FOLIO_STORE=str(folder / "store"), **changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


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


def preceding(folder: Path, **modules: str) -> dict[str, str]:
    """The environment in which modules with these texts come before all others, for ranks and launcher."""
    folder.mkdir()
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    return {"PYTHONPATH": f"{folder}:{Path(__file__).parent}:{ROOT}"}


def test_rank_that_cannot_load_torch_says_so_and_names_the_log_with_its_traceback(
    make_job: Callable[..., Any], launched: Callable[..., Any], tmp_path: Path
) -> None:
    job = make_job(steps=2, ranks=1)
    broken = preceding(tmp_path / "first", torch="raise ImportError('libcudart.so.12 is missing')")
    code, said = launched(job, **broken).end()
    log = job.logs / "rank-0.log"
    assert (code, said) == (
        5,
        f"Rank 0 on {socket.gethostname()} could not load its program: ImportError: libcudart.so.12 is missing. "
        f"Repair the installation there; the traceback is in {log}.",
    )
    assert 'torch.py", line 1, in <module>' in log.read_text()


def dying_at_once(rank: int, folder: Path, how: str) -> dict[str, str]:
    """The environment in which a rank ends like this while its Python starts."""
    text = f"import os, sys\nif os.environ.get('RANK') == '{rank}': {how}"
    return preceding(folder / "first", sitecustomize=text)


@pytest.mark.parametrize("rank", [0, 1])
def test_rank_that_dies_before_its_first_line_is_quoted(
    make_job: Callable[..., Any], launched: Callable[..., Any], tmp_path: Path, rank: int
) -> None:
    job = make_job(steps=2)
    code, said = launched(job, **dying_at_once(rank, tmp_path, "sys.exit('no fit Python')")).end()
    assert code == 6
    log = job.logs / f"rank-{rank}.log"
    assert f'before it joined: it left with exit code 1, see {log}, which ends with "SystemExit: no fit Python"' in said
    assert "no fit Python" in log.read_text()


def test_rank_that_is_killed_at_once_is_not_given_the_words_of_an_earlier_attempt(
    make_job: Callable[..., Any], launched: Callable[..., Any], tmp_path: Path
) -> None:
    job = make_job(steps=2)
    log = job.logs / "rank-1.log"
    log.write_text("words of an earlier attempt\n")
    os.utime(log, (1, 1))
    code, said = launched(job, **dying_at_once(1, tmp_path, "os.kill(os.getpid(), 9)")).end()
    assert code == 6
    assert f"before it joined: it was killed (out of memory?), and said nothing in {log}." in said


def test_nothing_that_takes_time_is_imported_before_the_program_has_taken_over_the_signals() -> None:
    script = (
        "import __future__, os, signal, sys; own = set(sys.modules); import cli.main; print(*set(sys.modules) - own)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert set(done.stdout.split()) == {"cli", "cli.main"}


SWALLOWS = """
try:
    import stopped
except Exception:
    pass
print("went on")
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_stop_within_an_import_whose_errors_are_swallowed_is_obeyed(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    (tmp_path / "swallows.py").write_text(SWALLOWS)
    (tmp_path / "stopped.py").write_text(f"import os\nos.kill(os.getpid(), {int(number)})\nnumber = 1\n")
    script = "import cli.program as program; program.app = lambda args: __import__('swallows'); program.run_program()"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == f"folio: Stopped by {number.name}; finished stages are kept. The same command goes on.\n"


# At the first handler of ours, and then within the first seconds, which on a busy machine are all imports.
DELAYS = (0.0, 0.15, 0.5, 1.0)


def take_over(process: subprocess.Popen[str]) -> None:
    """Return once the program has its own handler of SIGTERM: what happens before that is Python's."""
    caught = 0
    while not caught & 1 << (signal.SIGTERM - 1):
        assert process.poll() is None, process.communicate()
        caught = int(re.findall(r"SigCgt:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text())[0], 16)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("command", ["--help", "plan", "run"])
@pytest.mark.parametrize(("number", "codes"), [(signal.SIGINT, (130, -2)), (signal.SIGTERM, (75, -15))])
def test_stop_in_the_first_second_is_one_line_at_most(
    command: str, number: signal.Signals, codes: tuple[int, ...], config: Path, tmp_path: Path
) -> None:
    arguments = [] if command == "--help" else [str(config), "--ranks", "2"]
    for delay in DELAYS:
        process = started(f"exec folio {command} {' '.join(arguments)}", tmp_path)
        take_over(process)
        time.sleep(delay)
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
        # One that had ended already ended well.
        assert process.returncode in (*codes, *([0] if command != "run" else [])), said
        lines = [line for line in said.splitlines() if not line.startswith("   target")]
        stopped = f"folio: Stopped by {number.name}; finished stages are kept. The same command goes on."
        assert lines in ([], [stopped])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
@pytest.mark.parametrize("delay", [0.0, 0.2, 0.6])
def test_stop_while_the_ranks_import_is_one_line(
    make_job: Callable[..., Any], launched: Callable[..., Any], number: signal.Signals, code: int, delay: float
) -> None:
    launcher = launched(make_job(steps=2))
    while len(psutil.Process(launcher.process.pid).children()) < 2:
        time.sleep(0.01)
    time.sleep(delay)
    launcher.process.send_signal(number)
    assert launcher.end() == (code, "Training was stopped before it began. The same command goes on.")


INTERRUPTED = """
import os, signal, sys, time
sys.path.insert(0, {root!r})
from pipeline.execution.worker_pool import worker_pool
if __name__ == "__main__":
    signal.signal(signal.SIGINT, lambda number, frame: None)
    signal.signal(signal.SIGALRM, lambda number, frame: os.killpg(0, signal.SIGINT))
    # From before the first worker until each has worked: they import most of that time.
    signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
    with worker_pool(2) as pool:
        print(sum(pool.in_order(abs, [-1] * 20)))
        signal.setitimer(signal.ITIMER_REAL, 0)
"""


def test_ctrl_c_while_the_workers_start_makes_none_of_them_speak(tmp_path: Path) -> None:
    script = tmp_path / "pool.py"
    script.write_text(INTERRUPTED.format(root=str(ROOT)))
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60, check=False, start_new_session=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "20\n", "")
