from __future__ import annotations

import numpy as np
import pytest

from gpt.loss import IGNORED
from pipeline.errors import ConfigError
from pipeline.tokens.scoring_windows import scoring_windows

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
