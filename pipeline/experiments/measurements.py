"""Published figures as records: a value, its target and whether it was met, and what is needed to measure it again."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psutil
import torch

from pipeline.runtime.versions import git_commit

FIELDS = ("name", "value", "unit", "target", "met", "command", "commit", "machine", "date")
HIGHER_IS_BETTER = ("x", "bits/byte saved", "steps down")  # units of ratios and gains; all others are costs


def record(figure: dict[str, Any], command: str) -> dict[str, Any]:
    """A figure {name, value, unit, target, ...} with the command, commit, machine and date it was measured with.

    What the figure says itself is kept: one that was read from an older file names its own commit.
    """
    provenance = {"command": command, "commit": git_commit(), "machine": machine(), "date": today()}
    complete = {**provenance, "met": met(figure), **figure}
    missing = set(FIELDS) - complete.keys()
    assert not missing, f"a record without {sorted(missing)} cannot be judged"
    return complete


def met(figure: dict[str, Any]) -> bool | None:
    """Whether a figure reached its target: at least that for a ratio, at most that for a loss or a duration.

    None where there is no value or no target.
    """
    value, target = figure["value"], figure["target"]
    if value is None or target is None:
        return None
    return bool(value >= target if figure["unit"] in HIGHER_IS_BETTER else value <= target)


def machine() -> str:
    """Cores, processor and memory, and the GPU if there is one."""
    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
    parts = [f"{os.cpu_count()} x {_processor()}", memory, platform.system()]
    return ", ".join(parts + ([torch.cuda.get_device_name()] if torch.cuda.is_available() else []))


def _processor() -> str:
    """The processor's model where the kernel names it, else its architecture."""
    # Linux has this file, and on x86 a "model name" in it; on Arm there is none.
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def today() -> str:
    """The date in UTC, as 2026-01-31."""
    # UTC, so that records of machines in several time zones sort.
    return datetime.now(timezone.utc).date().isoformat()
