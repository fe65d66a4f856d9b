"""Which tokens each step trains on: a pure function of (seed, step), whatever the number of ranks.

An epoch repeats every source's samples by its weight, in an order that a keyed permutation computes. With B samples in
a batch, step s takes samples s * B ... (s + 1) * B - 1 of the endless sequence of epochs; rank r of R takes the r-th of
R consecutive, equal slices of them.

Nothing is stored or advanced: resuming a training, or changing its number of ranks, needs the step and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, DataError
from pipeline.tokens.data_order import Permutation, order_key
from pipeline.tokens.shard import DocumentSpan, TokenStream

MicroBatch = tuple[NDArray[np.int64], NDArray[np.int64]]  # inputs, targets: (micro_batch, context) each


@dataclass(frozen=True)
class Sample:
    """One training window: `length` tokens from `start` of stream number `stream`, which wraps around at its end.

    `length` is context + 1: the last token is a target only.
    """

    epoch: int
    stream: int
    start: int
    length: int


class Mixture:
    """Token streams with weights, cut into samples of `context` tokens and one more.

    A stream of n samples with weight 2.5 gives each sample twice and a keyed half of them a third time: 2.5 * n samples
    per epoch. Every epoch cuts its streams at another phase and wraps around at their end, so a text that is seen fifty
    times is cut in as many different ways.
    """

    def __init__(self, streams: Sequence[tuple[TokenStream, float]], context: int) -> None:
        self.streams = [stream for stream, _ in streams]
        self.context = context
        # Samples of each stream: a window takes one token more than `context`, and neighbours share that token. So each
        # token is a target at most once; at most `context` tokens are not, and others in every epoch.
        self._sizes = np.array([max(len(stream) - 1, 0) // context for stream in self.streams], dtype=np.int64)
        self._counts = np.array([round(weight * size) for (_, weight), size in zip(streams, self._sizes, strict=True)])
        # An epoch's places, before they are shuffled: all repeats of stream 0, then all of stream 1, and so on.
        self._ends = np.cumsum(self._counts)

    @property
    def num_samples(self) -> int:
        """Samples of one epoch."""
        return int(self._counts.sum())

    def samples(self, seed: int, epoch: int, indices: NDArray[np.int64]) -> list[Sample]:
        """Samples number `indices` of an epoch, in that order; indices int64, each below `num_samples`."""
        # All ranks must agree on the order, so the key is (seed, epoch), never the rank.
        places = Permutation(self.num_samples, order_key(seed, epoch))(indices)
        # side="right": a stream without samples has the same end as the one before it and is skipped.
        streams = np.searchsorted(self._ends, places, side="right")
        starts = np.empty_like(places)
        # One call per stream and not per sample: a permutation costs much per call and little per index.
        for stream in np.unique(streams):
            chosen = streams == stream
            repeats = places[chosen] - (self._ends[stream] - self._counts[stream])
            starts[chosen] = self._starts(int(stream), repeats, seed, epoch)
        pairs = zip(streams.tolist(), starts.tolist(), strict=True)
        return [Sample(epoch, stream, start, self.context + 1) for stream, start in pairs]

    def _starts(self, stream: int, repeats: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
        """First tokens of a stream's samples. `repeats` number them over all rounds: 0 ... weight * samples - 1."""
        size = int(self._sizes[stream])
        # The last round over a stream may be a partial one. A permutation decides which windows it shows; always the
        # first ones would favour the documents at the beginning of the source.
        partial = repeats >= int(self._counts[stream]) // size * size
        windows = repeats % size
        windows[partial] = Permutation(size, order_key(seed, epoch, stream, "partial"))(windows[partial])
        # One phase for all windows of the epoch: they stay disjoint, so still no token is a target twice.
        phase = order_key(seed, epoch, stream, "phase") % len(self.streams[stream])
        return (windows * self.context + phase) % len(self.streams[stream])

    def tokens(self, sample: Sample) -> NDArray[np.unsignedinteger]:
        """The context + 1 tokens of a sample, as stored; a view of the shard unless the sample crosses a border."""
        stream = self.streams[sample.stream]
        before_end = min(sample.length, len(stream) - sample.start)
        tokens = stream.window(sample.start, before_end)
        if before_end == sample.length:
            return tokens
        return np.concatenate([tokens, stream.window(0, sample.length - before_end)])

    def documents(self, sample: Sample) -> list[DocumentSpan]:
        """The documents of a sample, in order."""
        stream = self.streams[sample.stream]
        before_end = min(sample.length, len(stream) - sample.start)
        spans = stream.documents_of(sample.start, before_end)
        return spans + (stream.documents_of(0, sample.length - before_end) if before_end < sample.length else [])


def corpus_mixture(
    shards: Path, split: str, weights: Mapping[str, float], *, context: int, tokenizer_sha256: str
) -> Mixture:
    """A split of the corpus of a shards artifact. Each source is repeated by its weight (default 1).

    Raises DataError if the split has no shard, or one that another tokenizer wrote.
    """
    paths = sorted((shards / "corpus").glob(f"{split}-*.arrow"))
    if not paths:
        raise DataError(f"{shards} has no corpus/{split}-*.arrow.", remedy="Run stage shards again.")
    present = {info.source for info in TokenStream.open(paths, tokenizer_sha256=tokenizer_sha256).infos}
    # In the order of the config, so that renaming a source does not change the order of the data. A source that the
    # config does not list is text of the installed packages, which stands in for missing sources.
    names = [*(name for name in weights if name in present), *sorted(present - weights.keys())]
    return Mixture([(TokenStream.open(paths, source=name), weights.get(name, 1.0)) for name in names], context)


class Batches:
    """The batches of a training run, by step. Raises ConfigError if an epoch has fewer samples than one batch."""

    def __init__(self, mixture: Mixture, *, batch_samples: int, seed: int) -> None:
        self.mixture, self.batch_samples, self.seed = mixture, batch_samples, seed
        if mixture.num_samples < batch_samples:
            raise ConfigError(
                f"There are {mixture.num_samples:,} samples of {mixture.context} tokens, fewer than one batch of "
                f"{batch_samples:,}.",
                remedy="Give more text, or lower batch_tokens or model.context.",
            )

    def samples_of_step(self, step: int) -> list[Sample]:
        """The samples of one step over all ranks. Rank r of R trains on the r-th of R consecutive, equal slices."""
        return self._samples(step * self.batch_samples, self.batch_samples)

    def documents_of_step(self, step: int) -> list[str]:
        """The documents of one step over all ranks, each once and in order, as "source/id"."""
        spans = (span for sample in self.samples_of_step(step) for span in self.mixture.documents(sample))
        return list(dict.fromkeys(f"{span.source}/{span.document}" for span in spans))

    def of_step(self, step: int, *, rank: int, world_size: int, micro_batch: int) -> list[MicroBatch]:
        """This rank's micro-batches of a step: (inputs, targets), both int64 (micro_batch, context).

        Raises ConfigError if the batch does not divide into ranks and micro-batches.
        """
        share, rest = divmod(self.batch_samples, world_size)
        if rest or share % micro_batch:
            raise ConfigError(
                f"A batch of {self.batch_samples:,} samples does not divide into {world_size} ranks x "
                f"micro_batch {micro_batch}.",
                remedy="Change batch_tokens, micro_batch or the number of ranks.",
            )
        # Consecutive, so that the ranks' slices one after the other are the batch that a single rank would train on.
        samples = self._samples(step * self.batch_samples + rank * share, share)
        return [self._micro_batch(samples[at : at + micro_batch]) for at in range(0, share, micro_batch)]

    def _samples(self, first: int, count: int) -> list[Sample]:
        """Samples first ... first + count - 1 of the endless sequence of epochs."""
        # A batch may reach into the next epoch, which has another permutation and another phase.
        places = np.arange(first, first + count, dtype=np.int64)
        epochs, indices = np.divmod(places, self.mixture.num_samples)
        return [
            sample
            for epoch in np.unique(epochs).tolist()
            for sample in self.mixture.samples(self.seed, epoch, indices[epochs == epoch])
        ]

    def _micro_batch(self, samples: Sequence[Sample]) -> MicroBatch:
        # int64 because torch indexes embeddings with it; contiguous because from_numpy keeps the strides of a view.
        windows = np.stack([self.mixture.tokens(sample) for sample in samples]).astype(np.int64)
        return np.ascontiguousarray(windows[:, :-1]), np.ascontiguousarray(windows[:, 1:])
