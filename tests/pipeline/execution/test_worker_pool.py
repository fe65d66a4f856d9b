"""The same results in the same order, whoever computes them; and no process outlives its parent."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.corpus.parts import read_part
from pipeline.errors import DataError, EnvironmentFault
from pipeline.execution.worker_pool import IN_FLIGHT_PER_WORKER, InProcess, worker_pool

SLOW_FIRST = (30_000, 1, 2, 20_000, 3, 4, 5)


def test_results_keep_the_order_of_the_units() -> None:
    with worker_pool(2) as pool:
        assert list(pool.in_order(math.factorial, SLOW_FIRST)) == list(map(math.factorial, SLOW_FIRST))


def test_one_worker_works_in_this_process() -> None:
    with worker_pool(1) as pool:
        assert list(pool.in_order(abs, [-1, -2])) == [1, 2]
        assert isinstance(pool, InProcess)
        assert list(pool.in_order(lambda unit: os.getpid(), [1])) == [os.getpid()]


def test_units_are_taken_no_faster_than_results() -> None:
    taken = 0

    def units() -> Iterator[int]:
        nonlocal taken
        for number in range(1_000):
            taken = number + 1
            yield number

    with worker_pool(2) as pool:
        results = pool.in_order(abs, units())
        next(results)
        assert taken == 2 * IN_FLIGHT_PER_WORKER
        next(results)
        assert taken == 2 * IN_FLIGHT_PER_WORKER + 1
        results.close()  # type: ignore[attr-defined]


def test_exception_of_a_worker_surfaces_as_itself(tmp_path: Path) -> None:
    part = tmp_path / "part.jsonl.zst"
    part.write_bytes(b"not compressed")
    with worker_pool(2) as pool, pytest.raises(DataError, match=r"part.jsonl.zst is damaged .* run stage corpus again"):
        list(pool.in_order(read_part, [part]))


def test_units_go_to_other_processes() -> None:
    with worker_pool(2) as pool:
        processes = list(pool.in_order(eval, ["__import__('os').getpid()"] * 20))
    assert len(processes) == 20
    assert os.getpid() not in processes


def test_killed_worker_is_a_refusal() -> None:
    with worker_pool(2) as pool, pytest.raises(EnvironmentFault, match="A worker process was killed"):
        list(pool.in_order(os._exit, [1]))


PARENT = """
import time
from pipeline.corpus.parts import read_part
from pipeline.execution.worker_pool import worker_pool
if __name__ == "__main__":
    with worker_pool(2) as pool:
        list(pool.in_order(abs, range(9)))
        print("ready", flush=True)
        time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="workers follow their parent by a Linux request")
def test_workers_die_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        children = psutil.Process(parent.pid).children(recursive=True)
        assert len(children) >= 2
        parent.kill()
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
