"""What training asks of the machine: products in fewer bits where it has units for them, memory that stays."""

from __future__ import annotations

import ctypes
from typing import Any

import torch

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h
# Intel and AMD; Arm's name is "bf16". Without such units bf16 is emulated, a hundred times slower than fp32.
CPU_UNITS = "amx_bf16", "avx512_bf16", "bf16"


def has_bf16_units(device: str) -> bool:
    """Whether this machine's processors ("cpu") or GPUs ("cuda", "cuda:1") multiply bf16 in hardware."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # torch 2.10 cannot tell, and stays in fp32.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(unit, False) for unit in CPU_UNITS)


def products(dtype: str, device: str) -> torch.autocast:
    """A context, also a decorator: in it `mixed` multiplies fp32 matrices in bf16, where the hardware has units for it.

    Sums, norms and the loss stay in fp32, and so do the weights: PyTorch's autocast.
    """
    enabled = dtype == "mixed" and has_bf16_units(device)
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=enabled)


def keep_memory() -> None:
    """Have malloc keep what is freed: it otherwise returns every large buffer to the kernel, and each step faults all
    its pages in again (half of the time of a small model's step)."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)
        libc.mallopt(M_TOP_PAD, 256 << 20)
