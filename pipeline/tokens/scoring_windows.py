"""Windows that a text is scored in: inputs and targets in which every token counts exactly once."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpt.loss import IGNORED
from pipeline.errors import ConfigError
from pipeline.graph.advice import FEWEST_WINDOWS
from pipeline.tokens.shard import TokenStream


@dataclass(frozen=True)
class ScoringWindows:
    """Inputs and targets, both (windows, context) int64; targets are IGNORED where nothing is counted."""

    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    in_pieces: bool = False  # the text is so short that each window counts a piece, with what is before it as context

    @classmethod
    def of_shard(cls, shard: Path, *, tokenizer_sha256: str, context: int, stride: int | None = None) -> ScoringWindows:
        """All of a shard, each token scored once; a text of too few windows in pieces, if there is no `stride`.

        Raises DataError if another tokenizer wrote it.
        """
        stream = TokenStream.open([shard], tokenizer_sha256=tokenizer_sha256)
        tokens = stream.window(0, len(stream))
        if stride is None and 1 <= len(tokens) - 1 <= (FEWEST_WINDOWS - 1) * context:
            return cls(*windows_of_pieces(tokens, context, FEWEST_WINDOWS), in_pieces=True)
        return cls(*scoring_windows(tokens, context, stride))

    @classmethod
    def covering(cls, stream: TokenStream, *, context: int) -> ScoringWindows:
        """All of the target's selection split, each token scored once. Raises ConfigError if it is empty."""
        if len(stream) < 2:
            raise ConfigError("The target's selection split is empty.", remedy="Raise target.selection.")
        return cls(*scoring_windows(stream.window(0, len(stream)), context))

    @classmethod
    def spread_over(cls, stream: TokenStream, *, num_tokens: int, context: int) -> ScoringWindows:
        """At most `num_tokens` targets, in whole windows spread evenly over the stream, and at least one window.

        A stream that does not fill a window is one, padded with what does not count.
        """
        # Spread out, because the stream has one source after another: its beginning would be the first source only.
        available = (len(stream) - 1) // context
        if available < 1:
            return cls(*scoring_windows(stream.window(0, len(stream)), context))
        chosen = np.linspace(0, available - 1, num=max(min(num_tokens // context, available), 1)).astype(np.int64)
        rows = np.stack([stream.window(int(index) * context, context + 1) for index in chosen]).astype(np.int64)
        return cls(rows[:, :-1], rows[:, 1:])

    @property
    def num_tokens(self) -> int:
        """How many targets count."""
        return int((self.targets != IGNORED).sum())

    def micro_batches_of(
        self, rank: int, world_size: int, micro_batch: int
    ) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """This rank's windows as (inputs, targets), both (micro_batch, context).

        Every rank gets equally many micro-batches, padded with windows that do not count: under ZeRO 3 each forward
        gathers weights from all ranks, so a rank with fewer would leave the others waiting.
        """
        unit = world_size * micro_batch
        missing = -len(self.inputs) % unit  # to the next multiple of a micro-batch on every rank
        inputs = np.pad(self.inputs, ((0, missing), (0, 0)))
        targets = np.pad(self.targets, ((0, missing), (0, 0)), constant_values=IGNORED)
        return [
            (inputs[start : start + micro_batch], targets[start : start + micro_batch])
            for start in range(rank * micro_batch, len(inputs), unit)
        ]


def scoring_windows(
    tokens: NDArray[np.unsignedinteger], context: int, stride: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Inputs and targets, both int64 (windows, context), that predict each of `tokens` but the first exactly once.

    The first prediction is made from the first token, the end-of-text id before the document. Window k starts at token
    k * stride. With `stride` below `context` windows overlap, and a later window counts only its last `stride`
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
    # The inputs' padding must be valid ids. Which ones does not matter: causal attention hides them from all earlier
    # positions, and their own targets are IGNORED.
    inputs = _cut(np.pad(tokens, (0, span - len(tokens)), constant_values=tokens[0]), context, stride)
    targets = _cut(
        np.pad(tokens.astype(np.int64), (0, span - len(tokens)), constant_values=IGNORED)[1:], context, stride
    )
    # What the window before has already scored serves as context only.
    targets[1:, : context - stride] = IGNORED
    return inputs[:num_windows], targets


def windows_of_pieces(
    tokens: NDArray[np.unsignedinteger], context: int, num_pieces: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """As `scoring_windows`, for a short text: `num_pieces` windows that each count a piece of the text.

    The pieces are of equal length, but for one token, and there are as many as tokens if those are fewer. Each token is
    predicted from all of the text before it, as far as the context reaches.
    """
    num_targets = len(tokens) - 1
    ends = np.unique(np.linspace(0, num_targets, min(num_pieces, num_targets) + 1).round().astype(np.int64))
    inputs = np.full((len(ends) - 1, context), tokens[0], np.int64)
    targets = np.full((len(ends) - 1, context), IGNORED, np.int64)
    for row, (first, end) in enumerate(pairwise(ends.tolist())):
        start = max(end - context, 0)
        inputs[row, : end - start] = tokens[start:end]
        targets[row, first - start : end - start] = tokens[first + 1 : end + 1]
    return inputs, targets


def _cut(tokens: NDArray[np.generic], context: int, stride: int) -> NDArray[np.int64]:
    """Windows of `context` tokens, one every `stride`: int64 (windows, context)."""
    return np.lib.stride_tricks.sliding_window_view(tokens, context)[::stride].astype(np.int64)
