"""What the lecture shows to be equal, computed in each way: averages of the past; heads as a list and as a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from gpt.lecture import (
    MultiHead,
    Sizes,
    average_by_loop,
    average_by_matrix,
    average_by_softmax,
    batched,
    stacked,
)

LECTURE = Sizes(vocab_size=65, context=8, width=32, heads=4, layers=3)
ROUNDING = 1e-12  # in float64, of sums of a few dozen numbers near 1


def largest_differences() -> dict[str, float]:
    """The largest absolute difference of each pair that should be equal, by the sentence that names the pair.

    In float64, on random numbers of the lecture's sizes.
    """
    # In float64, where rounding leaves 1e-15: a real difference could hide below the 1e-7 of float32.
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, LECTURE.context, LECTURE.width, generator=generator, dtype=torch.float64)
    loop, matrix, softmax = average_by_loop(x), average_by_matrix(x), average_by_softmax(x)
    outputs, gradients = _heads_both_ways(x)
    return {
        "averaging the past, loop against matrix product": _largest(loop - matrix),
        "averaging the past, loop against softmax": _largest(loop - softmax),
        "EX1, list of heads against the batched class, outputs": outputs,
        "EX1, list of heads against the batched class, gradients": gradients,
    }


def _heads_both_ways(x: Tensor) -> tuple[float, float]:
    """Exercise EX1: the differences in outputs and in the gradients of the projections; x (B, T, C) float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        heads = MultiHead(LECTURE, mixes=True).double()
    attention = batched(heads)
    as_list, as_batch = heads(x), attention(x)
    # A square, so that the gradient depends on the output: of a plain sum it would be the same for wrong outputs too.
    for output in (as_list, as_batch):
        output.square().sum().backward()
    projections = stacked(heads, lambda linear: linear.weight.grad)
    assert attention.qkv.weight.grad is not None, "the backward reached it"
    return _largest(as_list - as_batch), _largest(projections - attention.qkv.weight.grad)


def _largest(difference: Tensor) -> float:
    return float(difference.detach().abs().max())
