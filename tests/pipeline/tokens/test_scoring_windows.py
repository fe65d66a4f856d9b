from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gpt.loss import IGNORED
from pipeline.errors import ConfigError, DataError
from pipeline.graph.advice import FEWEST_WINDOWS
from pipeline.tokens.scoring_windows import ScoringWindows, scoring_windows, windows_of_pieces
from pipeline.tokens.shard import Rows, ShardInfo, TokenStream, shard_name, write_shard

X = IGNORED


def test_windows_without_overlap_by_hand() -> None:
    inputs, targets = scoring_windows(np.array([9, 1, 2, 3, 4, 5], np.uint16), context=2)
    assert inputs.tolist() == [[9, 1], [2, 3], [4, 5]]
    assert targets.tolist() == [[1, 2], [3, 4], [5, X]]


def test_overlapping_windows_by_hand() -> None:
    inputs, targets = scoring_windows(np.array([9, 1, 2, 3, 4, 5, 6], np.uint16), context=4, stride=2)
    assert inputs.tolist() == [[9, 1, 2, 3], [2, 3, 4, 5]]
    assert targets.tolist() == [[1, 2, 3, 4], [X, X, 5, 6]]


def test_last_short_overlapping_window_is_padded() -> None:
    inputs, targets = scoring_windows(np.array([9, 1, 2, 3, 4, 5], np.uint16), context=4, stride=2)
    assert inputs.tolist() == [[9, 1, 2, 3], [2, 3, 4, 5]]
    assert targets.tolist() == [[1, 2, 3, 4], [X, X, 5, X]]
    inputs, targets = scoring_windows(np.array([9, 1, 2], np.uint16), context=4)
    assert inputs.tolist() == [[9, 1, 2, 9]]
    assert targets.tolist() == [[1, 2, X, X]]


def test_text_of_one_window_makes_one_window() -> None:
    inputs, targets = scoring_windows(np.array([9, 1, 2, 3], np.uint16), context=3, stride=1)
    assert inputs.tolist() == [[9, 1, 2]]
    assert targets.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("context", [1, 2, 5, 8])
@pytest.mark.parametrize("length", [1, 2, 5, 6, 7, 40, 41])
def test_every_token_is_scored_once_with_its_own_past(length: int, context: int) -> None:
    tokens = np.arange(100, 100 + length, dtype=np.uint32)  # each token is its predecessor plus one
    for stride in range(1, context + 1):
        inputs, targets = scoring_windows(tokens, context, stride)
        counted = targets != IGNORED
        assert sorted(targets[counted].tolist()) == tokens[1:].tolist()
        assert (inputs[counted] + 1 == targets[counted]).all()
        assert inputs.dtype == targets.dtype == np.int64
        assert not counted[1:, : context - stride].any()


@pytest.mark.parametrize("stride", [0, 5])
def test_stride_outside_the_context_is_refused(stride: int) -> None:
    with pytest.raises(ConfigError, match=f"stride is {stride}"):
        scoring_windows(np.arange(9), context=4, stride=stride)


def stream_of(folder: Path, num_tokens: int) -> TokenStream:
    """The stream of a shard "target/selection" with the tokens 0 ... num_tokens - 1."""
    path = folder / "target" / "selection.arrow"
    path.parent.mkdir(exist_ok=True)
    info = ShardInfo(shard_name(path), "target", tokenizer_sha256="a" * 64, vocab_size=1000, end_of_text=0)
    tokens = np.arange(num_tokens, dtype=np.uint16)
    write_shard(path, [Rows(tokens, np.array([0, num_tokens]), ["selection"])], info)
    return TokenStream.open([path])


def test_windows_of_a_shard_are_those_of_its_tokens(tmp_path: Path) -> None:
    stream_of(tmp_path, 7)
    path = tmp_path / "target" / "selection.arrow"
    windows = ScoringWindows.of_shard(path, tokenizer_sha256="a" * 64, context=4, stride=2)
    assert windows.inputs.tolist() == [[0, 1, 2, 3], [2, 3, 4, 5]]
    assert windows.targets.tolist() == [[1, 2, 3, 4], [X, X, 5, 6]]
    assert windows.num_tokens == 6
    with pytest.raises(DataError, match="b" * 64):
        ScoringWindows.of_shard(path, tokenizer_sha256="b" * 64, context=4)


def test_empty_selection_split_is_refused(tmp_path: Path) -> None:
    """Its shard holds one row with the end-of-text id alone, from which nothing can be predicted."""
    with pytest.raises(ConfigError, match=r"selection split is empty\. Raise target\.selection"):
        ScoringWindows.covering(stream_of(tmp_path, 1), context=4)


def test_ranks_get_windows_in_turn_padded_with_windows_that_do_not_count() -> None:
    """Three windows on two ranks with micro-batches of one: 0 and 2, then 1 and padding."""
    inputs = np.array([[1, 2], [3, 4], [5, 6]])
    windows = ScoringWindows(inputs, inputs + 10)
    first, second = (windows.micro_batches_of(rank, world_size=2, micro_batch=1) for rank in (0, 1))
    assert [targets.tolist() for _, targets in first] == [[[11, 12]], [[15, 16]]]
    assert [targets.tolist() for _, targets in second] == [[[13, 14]], [[X, X]]]


@pytest.mark.parametrize(("num_windows", "ranks", "micro"), [(10, 1, 3), (10, 2, 3), (7, 4, 1), (1, 3, 2)])
def test_ranks_score_every_window_once_in_equally_many_forwards(num_windows: int, ranks: int, micro: int) -> None:
    targets = np.arange(num_windows * 4).reshape(num_windows, 4)
    shares = [ScoringWindows(targets, targets).micro_batches_of(rank, ranks, micro) for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1
    assert all(inputs.shape == (micro, 4) for share in shares for inputs, _ in share)
    scored = np.concatenate([part.ravel() for share in shares for _, part in share])
    assert sorted(scored[scored != IGNORED]) == list(range(num_windows * 4))


def test_spread_windows_reach_from_the_first_to_the_last_token(tmp_path: Path) -> None:
    windows = ScoringWindows.spread_over(stream_of(tmp_path, 101), num_tokens=30, context=10)
    assert windows.inputs[:, 0].tolist() == [0, 40, 90]
    assert (windows.targets == windows.inputs + 1).all()
    assert windows.targets.dtype == np.int64


def test_covering_windows_score_every_token_but_the_first(tmp_path: Path) -> None:
    windows = ScoringWindows.covering(stream_of(tmp_path, 26), context=10)
    assert sorted(windows.targets[windows.targets != IGNORED]) == list(range(1, 26))


def test_a_stream_shorter_than_a_window_is_scored_as_far_as_it_goes(tmp_path: Path) -> None:
    windows = ScoringWindows.spread_over(stream_of(tmp_path, 8), num_tokens=100, context=10)
    assert windows.inputs.shape == (1, 10)
    assert windows.targets.tolist() == [[1, 2, 3, 4, 5, 6, 7, X, X, X]]


def test_pieces_by_hand() -> None:
    inputs, targets = windows_of_pieces(np.array([9, 1, 2, 3, 4, 5, 6], np.uint16), context=4, num_pieces=3)
    assert inputs.tolist() == [[9, 1, 9, 9], [9, 1, 2, 3], [2, 3, 4, 5]]
    assert targets.tolist() == [[1, 2, X, X], [X, X, 3, 4], [X, X, 5, 6]]


@pytest.mark.parametrize("num_tokens", [2, 3, 15, 21, 22, 63, 19 * 8 + 1])
def test_a_short_text_is_counted_once_in_enough_windows_of_nearly_equal_pieces(tmp_path: Path, num_tokens: int) -> None:
    windows = windows_of(tmp_path, num_tokens)
    counted = windows.targets[windows.targets != X]
    assert counted.tolist() == list(range(1, num_tokens)), "every token but the first, once and in order"
    sizes = (windows.targets != X).sum(axis=1)
    assert len(sizes) == min(FEWEST_WINDOWS, num_tokens - 1)
    assert sizes.max() - sizes.min() <= 1
    for inputs, targets in zip(windows.inputs, windows.targets, strict=True):
        last = int(np.flatnonzero(targets != X)[-1])
        # The stream counts up, so a target is its input plus one; from the text's beginning, or a whole context.
        assert (targets[: last + 1][targets[: last + 1] != X] == inputs[: last + 1][targets[: last + 1] != X] + 1).all()
        assert inputs[0] == 0 or last == 7


def test_a_text_of_enough_windows_is_not_cut_into_pieces(tmp_path: Path) -> None:
    assert windows_of(tmp_path, 19 * 8 + 1).in_pieces
    enough = windows_of(tmp_path, 19 * 8 + 2)
    assert len(enough.inputs) == FEWEST_WINDOWS and not enough.in_pieces
    assert not windows_of(tmp_path, 63, stride=4).in_pieces


def windows_of(folder: Path, num_tokens: int, stride: int | None = None) -> ScoringWindows:
    """Windows of a context of 8 over a text of the tokens 0, 1, 2 and so on."""
    stream_of(folder, num_tokens)
    path = folder / "target" / "selection.arrow"
    return ScoringWindows.of_shard(path, tokenizer_sha256="a" * 64, context=8, stride=stride)
