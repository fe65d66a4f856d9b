"""What this process used, in bytes. Each case runs in a process of its own: a peak never goes down again."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

MB = 1_000_000
PEAK = """
import subprocess, sys
from pipeline.runtime.memory import keep_freed_memory, peak_memory_bytes
"""


def printed(script: str) -> list[int]:
    """The whole numbers that a script prints after the imports."""
    # Through a shell, because Linux counts what the starting process used, here pytest, as a new program's own peak.
    command = ["sh", "-c", '"$0" -c "$1"; exit $?', sys.executable, PEAK + script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [int(word) for word in done.stdout.split()]


def test_peak_is_in_bytes_and_stays_after_the_memory_was_freed() -> None:
    before, after = printed("print(peak_memory_bytes()); x = b'x' * 300_000_000; del x; print(peak_memory_bytes())")
    assert 2 * MB < before < 250 * MB
    assert 290 * MB < after - before < 320 * MB


def test_children_count_where_they_are_asked_for() -> None:
    child = "subprocess.run([sys.executable, '-c', 'bytes([1]) * 300_000_000'], check=True)"
    own, largest = printed(f"{child}; print(peak_memory_bytes(), peak_memory_bytes(children=True))")
    assert own < 250 * MB
    assert largest > 300 * MB


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library has no mallopt")
def test_freed_memory_is_kept_for_the_next_buffer() -> None:
    """The second large buffer costs page faults only where the first one was given back to the kernel."""
    script = """
import resource
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    x = bytearray(64_000_000); del x
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
{}
faults(); print(faults())
"""
    [by_default], [kept] = printed(script.format("")), printed(script.format("keep_freed_memory()"))
    assert by_default > 10 * max(kept, 1)
