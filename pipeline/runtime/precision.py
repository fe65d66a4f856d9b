"""Which device computes, and in which precision: autocast to bf16 where the hardware multiplies it."""

from __future__ import annotations

from typing import Any

import torch

# The first two are x86's capabilities, the last is Arm's. Without such units bf16 is emulated, a hundred times slower
# than fp32.
CPU_UNITS = ("amx_bf16", "avx512_bf16", "bf16")


def default_device() -> torch.device:
    """The GPU if there is one, else the CPU. Ranks choose theirs by local rank instead (`distributed/world.py`)."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_bf16_units(device: str) -> bool:
    """Whether this machine's processors ("cpu") or GPUs ("cuda", "cuda:1") multiply bf16 in hardware."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # torch 2.10 does not report capabilities: False then, and training stays in fp32.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(unit, False) for unit in CPU_UNITS)


def autocast_for(dtype: str, device: str) -> torch.autocast:
    """PyTorch's autocast as a context or decorator: enabled for dtype "mixed" where the hardware has bf16 units.

    Matrix products then run in bf16; sums, norms, the loss and the weights stay in fp32.
    """
    enabled = dtype == "mixed" and has_bf16_units(device)
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=enabled)
