from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.graph.fitted_batch import TrainingText
from pipeline.tokens.batches import Batches, Mixture, Sample, corpus_mixture
from pipeline.tokens.shard import DocumentSpan, Rows, ShardInfo, TokenStream, shard_name, write_shard

CONTEXT = 4


def stream_of(folder: Path, name: str, tokens: range, source: str = "") -> TokenStream:
    """A stream of distinct tokens, in documents of seven and record batches of one document."""
    path = folder / f"{name}.arrow"
    documents = [np.array(tokens[at : at + 7], np.uint32) for at in range(0, len(tokens), 7)]
    rows = [Rows(document, np.array([0, len(document)]), [f"{name}-{at}"]) for at, document in enumerate(documents)]
    info = ShardInfo(shard_name(path), source or name, tokenizer_sha256="", vocab_size=1 << 20, end_of_text=0)
    write_shard(path, rows, info)
    return TokenStream.open([path])


@pytest.fixture
def small(tmp_path: Path) -> TokenStream:
    return stream_of(tmp_path, "small", range(41))  # ten samples of four tokens


@pytest.fixture
def large(tmp_path: Path) -> TokenStream:
    return stream_of(tmp_path, "large", range(1000, 1403))  # a hundred samples, and two tokens left


def epoch_of(mixture: Mixture, seed: int = 1, epoch: int = 0) -> list[Sample]:
    return mixture.samples(seed, epoch, np.arange(mixture.num_samples))


def test_weight_is_how_often_a_sample_appears_in_an_epoch(small: TokenStream, large: TokenStream) -> None:
    mixture = Mixture([(small, 2.5), (large, 0.5)], CONTEXT)
    assert mixture.num_samples == 25 + 50
    times = Counter((sample.stream, sample.start) for sample in epoch_of(mixture))
    assert sorted(times[place] for place in times if place[0] == 0) == [2] * 5 + [3] * 5
    assert [times[place] for place in times if place[0] == 1] == [1] * 50


def test_half_weight_shows_another_scattered_half_in_each_epoch(large: TokenStream) -> None:
    mixture = Mixture([(large, 0.5)], CONTEXT)
    halves = set()
    for epoch in range(3):
        starts = sorted(sample.start for sample in epoch_of(mixture, epoch=epoch))
        assert len(set(starts)) == 50
        assert sum(gap > CONTEXT for gap in np.diff(starts)) > 10  # consecutive windows would leave one gap or two
        halves.add(tuple(starts))
    assert len(halves) == 3


def test_each_token_is_a_target_once_in_an_epoch(small: TokenStream, large: TokenStream) -> None:
    mixture = Mixture([(small, 1), (large, 1)], CONTEXT)
    for epoch in range(3):
        targets = [token for sample in epoch_of(mixture, epoch=epoch) for token in mixture.tokens(sample)[1:].tolist()]
        assert len(set(targets)) == len(targets) == 110 * CONTEXT


def test_sample_is_consecutive_and_goes_around_the_end(small: TokenStream) -> None:
    mixture = Mixture([(small, 1)], CONTEXT)
    around = 0
    for epoch in range(20):
        for sample in epoch_of(mixture, epoch=epoch):
            tokens = mixture.tokens(sample).tolist()
            assert tokens == [(sample.start + offset) % 41 for offset in range(CONTEXT + 1)]
            around += tokens[-1] < tokens[0]
    assert around > 0
    assert mixture.documents(Sample(0, 0, 40, 3)) == [
        DocumentSpan("small-5", "small", 5, 5),
        DocumentSpan("small-0", "small", 0, 1),
    ]


def test_epochs_and_seeds_differ_in_order_and_phase(large: TokenStream) -> None:
    mixture = Mixture([(large, 1)], CONTEXT)
    orders = [epoch_of(mixture, seed, epoch) for seed in (1, 2) for epoch in (0, 1)]
    assert len({tuple(sample.start for sample in order) for order in orders}) == 4
    assert len({min(sample.start for sample in order) for order in orders}) > 1


def test_steps_walk_through_epochs_without_gap_or_repeat(small: TokenStream) -> None:
    mixture = Mixture([(small, 1)], CONTEXT)
    batches = Batches(mixture, batch_samples=4, seed=1)
    walked = [sample for step in range(5) for sample in batches.samples_of_step(step)]
    assert walked == epoch_of(mixture, epoch=0) + epoch_of(mixture, epoch=1)


def test_any_step_is_the_same_when_asked_alone(small: TokenStream) -> None:
    mixture = Mixture([(small, 1)], CONTEXT)
    in_order = [Batches(mixture, batch_samples=4, seed=1).samples_of_step(step) for step in range(9)]
    backwards = [Batches(mixture, batch_samples=4, seed=1).samples_of_step(step) for step in reversed(range(9))]
    assert in_order == backwards[::-1]


@pytest.mark.parametrize(("world_size", "micro_batch"), [(1, 12), (1, 1), (2, 3), (3, 2), (4, 3), (6, 1), (12, 1)])
def test_global_batch_is_the_same_at_every_world_size(large: TokenStream, world_size: int, micro_batch: int) -> None:
    batches = Batches(Mixture([(large, 1)], CONTEXT), batch_samples=12, seed=3)
    for step in (0, 7, 1_000_000):
        ranks = [
            batches.of_step(step, rank=rank, world_size=world_size, micro_batch=micro_batch)
            for rank in range(world_size)
        ]
        assert all(inputs.shape == (micro_batch, CONTEXT) for rank in ranks for inputs, _ in rank)
        together = np.concatenate([inputs for rank in ranks for inputs, _ in rank])
        expected = [batches.mixture.tokens(sample)[:-1].tolist() for sample in batches.samples_of_step(step)]
        assert together.tolist() == expected


def test_rank_batches_are_disjoint(large: TokenStream) -> None:
    batches = Batches(Mixture([(large, 1)], CONTEXT), batch_samples=50, seed=3)
    seen = [
        set(np.concatenate([targets.ravel() for _, targets in batches.of_step(0, rank=r, world_size=2, micro_batch=5)]))
        for r in (0, 1)
    ]
    assert seen[0].isdisjoint(seen[1])
    assert len(seen[0]) == len(seen[1]) == 25 * CONTEXT


def test_targets_are_the_next_inputs(large: TokenStream) -> None:
    ((inputs, targets),) = Batches(Mixture([(large, 1)], CONTEXT), batch_samples=2, seed=3).of_step(
        5, rank=0, world_size=1, micro_batch=2
    )
    assert inputs.dtype == targets.dtype == np.int64
    assert inputs[:, 1:].tolist() == targets[:, :-1].tolist()
    assert inputs.flags.c_contiguous
    assert targets.flags.c_contiguous


def test_too_little_text_for_a_batch_is_refused(small: TokenStream) -> None:
    with pytest.raises(ConfigError, match="10 samples of 4 tokens, fewer than one batch of 11"):
        Batches(Mixture([(small, 1)], CONTEXT), batch_samples=11, seed=1)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (2.5, 0.5), (0.26, 3.0)])
def test_the_samples_that_a_plan_counts_are_those_of_an_epoch(
    small: TokenStream, large: TokenStream, weights: tuple[float, float]
) -> None:
    """The batch that a short text can fill is decided before its shards are opened."""
    streams = list(zip((small, large), weights, strict=True))
    counted = TrainingText("the corpus", tuple((len(stream), weight) for stream, weight in streams), 0)
    assert counted.num_samples(CONTEXT) == Mixture(streams, CONTEXT).num_samples


def test_stream_shorter_than_a_sample_takes_no_part(tmp_path: Path, large: TokenStream) -> None:
    short = stream_of(tmp_path, "short", range(CONTEXT))
    mixture = Mixture([(short, 3), (large, 1), (short, 1)], CONTEXT)
    assert {sample.stream for sample in epoch_of(mixture)} == {1}


def test_corpus_mixture_follows_the_weights_and_takes_other_sources_once(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number, source in enumerate(("books", "plays", "installed")):
        stream_of(folder, f"train-{number:05d}", range(number * 1000, number * 1000 + 41), source)
    weights = {"plays": 2.0, "books": 0.5, "nowhere": 9.0}
    mixture = corpus_mixture(tmp_path, "train", weights, context=CONTEXT, tokenizer_sha256="")
    assert [stream.infos[0].source for stream in mixture.streams] == ["plays", "books", "installed"]
    assert mixture.num_samples == 20 + 5 + 10
    with pytest.raises(DataError, match=r"corpus/validation-\*\.arrow"):
        corpus_mixture(tmp_path, "validation", weights, context=CONTEXT, tokenizer_sha256="")


@pytest.mark.parametrize(("world_size", "micro_batch"), [(5, 1), (2, 4)])
def test_batch_that_does_not_divide_is_refused(large: TokenStream, world_size: int, micro_batch: int) -> None:
    batches = Batches(Mixture([(large, 1)], CONTEXT), batch_samples=12, seed=3)
    with pytest.raises(ConfigError, match="does not divide"):
        batches.of_step(0, rank=0, world_size=world_size, micro_batch=micro_batch)
