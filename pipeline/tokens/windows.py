"""Windows for scoring a text: every token counts exactly once, however much the windows overlap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpt.loss import IGNORED
from pipeline.errors import ConfigError


def scoring_windows(
    tokens: NDArray[np.unsignedinteger], context: int, stride: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Inputs and targets, both int64 (windows, context), that predict each of `tokens` but the first exactly once.

    The first token, the end-of-text before the document, is what the first prediction is made from. Window k starts at
    token k * stride. With `stride` below `context` windows overlap, and a later window counts only its last `stride`
    targets, each predicted from at least context - stride + 1 tokens. All other targets, and the padding of a last
    window that is too short, are IGNORED.

    Raises ConfigError for a stride outside 1 ... context.
    """
    stride = context if stride is None else stride
    if not 1 <= stride <= context:
        raise ConfigError(
            f"report.stride is {stride}, outside 1 ... {context}.", remedy="Use the context, or less for overlap."
        )
    num_targets = len(tokens) - 1
    if num_targets < 1:
        return np.empty((0, context), np.int64), np.empty((0, context), np.int64)
    num_windows = 1 + -(-max(num_targets - context, 0) // stride)
    span = (num_windows - 1) * stride + context + 1
    inputs = _cut(np.pad(tokens, (0, span - len(tokens)), constant_values=tokens[0]), context, stride)
    targets = _cut(
        np.pad(tokens.astype(np.int64), (0, span - len(tokens)), constant_values=IGNORED)[1:], context, stride
    )
    targets[1:, : context - stride] = IGNORED
    return inputs[:num_windows], targets


def _cut(tokens: NDArray[np.generic], context: int, stride: int) -> NDArray[np.int64]:
    return np.lib.stride_tricks.sliding_window_view(tokens, context)[::stride].astype(np.int64)
