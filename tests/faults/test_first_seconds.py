"""The first seconds: ranks that die before they say a word, and a program that is stopped before it has begun."""

from __future__ import annotations

import os
import re
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

from tests.faults.conftest import ROOT, started


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
    """Return once the program has its own handler of SIGTERM, or has ended: what happens before that is Python's."""
    caught = 0
    while not caught & 1 << (signal.SIGTERM - 1) and process.poll() is None:
        caught = int(re.findall(r"SigCgt:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text())[0], 16)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("command", ["--help", "plan", "run"])
@pytest.mark.parametrize(
    ("number", "codes"), [(signal.SIGINT, (130, -2)), (signal.SIGTERM, (75, -15)), (signal.SIGUSR1, (75, -10))]
)
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
        lines = [line for line in said.splitlines() if not re.match(r" *(target|corpus|tokenizer|shards)  ", line)]
        stopped = f"folio: Stopped by {number.name}; finished stages are kept. The same command goes on."
        assert lines in ([], [stopped])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGHUP, 75)])
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
