"""The machine that a plan is for: this one, whose speed is timed, or another one by name, from published figures.

h100x8, h200x1, a100x4    GPUs of one machine
cpu:64                    64 cores, each as fast as one of this machine's
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import psutil
import torch

from gpt.shape import GPTShape
from pipeline.errors import ConfigError
from pipeline.graph.forecast import flops_per_second, speeds_in_turns
from pipeline.runtime.precision import has_bf16_units
from pipeline.runtime.processes import usable_cores


class Device(NamedTuple):
    """A GPU as its data sheet has it: dense floating-point operations a second (no sparsity), and memory."""

    bf16: float  # tensor cores, products summed in fp32
    fp32: float  # without TF32, which training does not use
    memory_bytes: int


# NVIDIA's data sheets; where those give figures with sparsity, half of them. SXM where a card has several forms.
DEVICES = {
    "a100": Device(312e12, 19.5e12, 80_000_000_000),  # A100 80GB
    "h100": Device(989e12, 67e12, 80_000_000_000),  # H100 SXM
    "h200": Device(989e12, 67e12, 141_000_000_000),  # H200 SXM
    "b200": Device(2250e12, 75e12, 180_000_000_000),  # DGX B200, an eighth of it
    "l4": Device(121e12, 30.3e12, 24_000_000_000),
    "l40s": Device(362e12, 91.6e12, 48_000_000_000),
    "a10": Device(125e12, 31.2e12, 24_000_000_000),
    "rtx3090": Device(71e12, 35.6e12, 24_000_000_000),  # GA102 whitepaper
    "rtx4090": Device(165e12, 82.6e12, 24_000_000_000),  # Ada whitepaper
}
# Share of the peak that training reaches: torchtitan 33 to 39 % for 8B on H100, llm.c about 60 % and nanoGPT less than
# half for 124M on A100. Models narrower than 1024 reach less, which is what the time of launches below is for.
EFFICIENCY = 0.4
LAUNCH_SECONDS = 1e-3  # a layer's kernels, forward and backward, at some 10 microseconds each: no GPU is faster
CORE_BYTES = 4_000_000_000  # memory for each core of a machine that is only named by its cores


@dataclass(frozen=True)
class Machine:
    """Where training would run: `units` GPUs, or cores that share one memory."""

    name: str  # "" for this machine
    units: int
    memory_bytes: int  # of one GPU, or of all cores
    device: Device | None = None  # None: timed on this machine
    gpu: bool = False
    # Of one core or GPU, by model and dtype, for any number of samples; others are timed one by one.
    speeds: Mapping[tuple[GPTShape, str], float] = field(default_factory=dict)

    @property
    def here(self) -> bool:
        return not self.name

    def flops_per_second(self, shape: GPTShape, dtype: str, samples: int, ranks: int) -> float:
        """Floating-point operations a second that training reaches on all ranks together."""
        if self.device is not None:
            return ranks * EFFICIENCY * (self.device.fp32 if dtype == "fp32" else self.device.bf16)
        one = self.speeds.get((replace(shape, dropout=0.0), dtype)) or flops_per_second(
            shape, dtype, samples, self._timed_on, 1 if self.gpu else ranks
        )
        # Each rank has a GPU of its own, or all share the cores.
        return one * (ranks if self.gpu else self.units)

    def timed(self, shapes: Sequence[GPTShape], dtype: str, samples: int, ranks: int, seconds: float) -> Machine:
        """This machine with the speeds of models that are to be compared, which are timed in turns.

        `seconds` go into the timing of each. A machine with published figures needs none.
        """
        if self.device is not None:
            return self
        speeds = speeds_in_turns(shapes, dtype, samples, self._timed_on, 1 if self.gpu else ranks, seconds)
        return replace(self, speeds={(shape, dtype): speed for shape, speed in zip(shapes, speeds, strict=True)})

    @property
    def _timed_on(self) -> str:
        return "cuda" if self.gpu else "cpu"

    @property
    def launch_seconds(self) -> float:
        """The least time of one layer's forward and backward on a GPU, where nothing was timed."""
        return LAUNCH_SECONDS if self.device is not None else 0.0

    def ranks_per_memory(self, ranks: int) -> int:
        """How many ranks share `memory_bytes`."""
        return 1 if self.gpu else ranks

    @property
    def described(self) -> str:
        """What a plan says of a machine that is not here; empty for this one."""
        if self.here:
            return ""
        if self.device is None:
            return f"on {self.name}: {self.units} cores like this machine's, {CORE_BYTES / 1e9:g} GB of memory each"
        peak = f"{self.device.bf16 / 1e12:,.0f} TFLOP/s in bf16, {self.device.fp32 / 1e12:g} in fp32"
        return f"on {self.name}: at {EFFICIENCY:.0%} of its published peak ({peak})"


def this_machine() -> Machine:
    """The machine that this process runs on, with the memory that is available now."""
    if torch.cuda.is_available():
        memory = int(torch.cuda.get_device_properties(0).total_memory)
        return Machine("", torch.cuda.device_count(), memory, gpu=True)
    return Machine("", usable_cores(), int(psutil.virtual_memory().available))


def named_machine(name: str) -> Machine:
    """The machine of `--on`. Raises ConfigError with the known names for another one."""
    cores = re.fullmatch(r"cpu:([1-9]\d{0,4})", name)
    if cores:
        return Machine(name, int(cores[1]), int(cores[1]) * CORE_BYTES)
    gpus = re.fullmatch(r"([a-z]+\d+[a-z]*)x([1-9]\d{0,4})", name.lower())
    device = DEVICES.get(gpus[1]) if gpus else None
    if gpus is None or device is None:
        close = difflib.get_close_matches(name.lower().partition("x")[0], DEVICES, n=1)
        hint = f" Did you mean {close[0]}x8?" if close else ""
        known = ", ".join(f"{known}xN" for known in DEVICES)
        raise ConfigError(f"--on {name!r} is not a known machine.{hint}", remedy=f"Known are {known}, cpu:N.")
    return Machine(name.lower(), int(gpus[2]), device.memory_bytes, device, gpu=True)


def named_ranks(machine: Machine, asked: int | None) -> int:
    """The ranks of a plan for a machine that is not here: those asked for, or one per GPU, one on cores.

    Raises ConfigError for more ranks than the machine has GPUs or cores.
    """
    ranks = asked or (machine.units if machine.gpu else 1)
    if ranks > machine.units:
        kind = "GPUs" if machine.gpu else "cores"
        raise ConfigError(
            f"--ranks {ranks} is more than the {machine.units} {kind} of {machine.name}.",
            remedy=f"Use --ranks {machine.units}, or leave it out.",
        )
    return ranks


def dtype_notes(machine: Machine, dtypes: Mapping[str, str]) -> list[str]:
    """What the dtype of each training stage means where the hardware has no units for bf16."""
    if machine.device is not None or has_bf16_units("cuda" if machine.gpu else "cpu"):
        return []
    meaning = {
        "bf16": "is emulated by this processor and takes up to a hundred times as long; mixed or fp32 would not",
        "mixed": "computes in fp32 on this processor, which has no units for bf16",
    }
    return [
        f"{', '.join(names)}: dtype {dtype} {text}."
        for dtype, text in meaning.items()
        if (names := [name for name, chosen in dtypes.items() if chosen == dtype])
    ]
