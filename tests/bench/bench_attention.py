"""What exercise EX1 of the lecture buys: all heads in one batched class against the lecture's list of heads.

    python -m tests.bench.bench_attention           prints one JSON record per ratio; half a minute on one core

Both hold the same weights and do one forward and one backward on the same input. They take turns, so a busy machine
slows both alike, and only ratios of medians are reported. The batched class is measured as it is, with PyTorch's fused
kernel, and with arithmetic like the list's, which shows what batching alone does.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from gpt.lecture import MultiHead, Sizes, batched

LAST = Sizes(vocab_size=65, context=256, width=384, heads=6, layers=6), 8
FIRST = Sizes(vocab_size=65, context=8, width=32, heads=4, layers=3), 32
ROUNDS = 15
TARGET = 1.0


def main() -> None:
    """Measure and print one JSON record per ratio; above 1 the batched class is faster."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for (sizes, batch), steps in ((LAST, 1), (FIRST, 50)):
        for record in records(sizes, batch, steps, options.rounds, device):
            print(json.dumps(record), flush=True)


def records(sizes: Sizes, batch: int, steps: int, rounds: int, device: str) -> list[dict[str, Any]]:
    """Both ratios at one size; a turn is `steps` forwards and backwards."""
    torch.manual_seed(0)
    heads = MultiHead(sizes, mixes=True).to(device)
    attention = batched(heads).to(device)
    x = torch.randn(batch, sizes.context, sizes.width, device=device)
    torch.testing.assert_close(attention(x), heads(x))
    contenders = {
        "list of heads": lambda: both_ways(heads, x),
        "fused": lambda: both_ways(attention, x),
        "unfused": lambda: unfused(lambda: both_ways(attention, x)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):  # the first one warms up
        for name, contender in contenders.items():
            elapsed = timed(contender, steps, device)
            seconds[name] += [elapsed] if turn else []
    medians = {name: statistics.median(times) / steps * 1000 for name, times in seconds.items()}
    shape = f"{sizes.heads} heads x {sizes.width // sizes.heads}, context {sizes.context}"
    name = f"EX1, attention, one batched class / list of heads, {shape}"
    found = [ratio(name, medians, "fused", rounds), ratio(f"{name}, no fused kernel", medians, "unfused", rounds)]
    return [record | {"batch": batch, "dtype": "fp32", "device": device} for record in found]


def ratio(name: str, medians: dict[str, float], who: str, rounds: int) -> dict[str, Any]:
    times = [round(medians[one], 3) for one in (who, "list of heads")]
    return {
        "name": name,
        "value": round(medians["list of heads"] / medians[who], 2),
        "unit": "x",
        "target": TARGET if who == "fused" else None,
        "milliseconds": times,
        "turns": rounds,
        "threads": torch.get_num_threads(),
    }


def timed(contender: Callable[[], None], steps: int, device: str) -> float:
    started = time.perf_counter()
    for _ in range(steps):
        contender()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def both_ways(module: torch.nn.Module, x: Tensor) -> None:
    module(x).sum().backward()


def unfused(contender: Callable[[], None]) -> None:
    with sdpa_kernel(SDPBackend.MATH):
        contender()


if __name__ == "__main__":
    main()
