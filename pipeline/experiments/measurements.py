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
HIGHER_IS_BETTER = ("x", "bits/byte saved", "steps down")


def record(found: dict[str, Any], command: str) -> dict[str, Any]:
    """What was found {name, value, unit, target, ...} with where and when; what it says itself stays as it is."""
    here = {"command": command, "commit": git_commit(), "machine": machine(), "date": today(), "met": met(found)}
    return {**here, **found}


def met(found: dict[str, Any]) -> bool | None:
    """Whether a figure reached its target: at least that for a ratio, at most that for a loss or a duration."""
    value, target = found["value"], found["target"]
    if value is None or target is None:
        return None
    return bool(value >= target if found["unit"] in HIGHER_IS_BETTER else value <= target)


def machine() -> str:
    """Cores, processor and memory, and the GPU if there is one."""
    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
    parts = [f"{os.cpu_count()} x {_processor()}", memory, platform.system()]
    return ", ".join(parts + ([torch.cuda.get_device_name()] if torch.cuda.is_available() else []))


def _processor() -> str:
    """The model where the kernel names it, which is on Linux and not on every architecture; else the architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def today() -> str:
    return datetime.now(timezone.utc).date().isoformat()
