from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gpt.loss import IGNORED
from pipeline.errors import ConfigError
from pipeline.tokens.scoring_windows import ScoringWindows
from pipeline.tokens.shard import Rows, ShardInfo, TokenStream, write_shard


def stream_of(folder: Path, num_tokens: int) -> TokenStream:
    tokens = np.arange(num_tokens, dtype=np.uint16)
    path = folder / "target" / "selection.arrow"
    path.parent.mkdir()
    info = ShardInfo("target/selection", "target", "sha", vocab_size=60_000, end_of_text=0)
    write_shard(path, [Rows(tokens, np.array([0, num_tokens]), ["all"])], info)
    return TokenStream.open([path])


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


def test_too_little_text_to_validate_on_is_refused(tmp_path: Path) -> None:
    stream = stream_of(tmp_path, 10)
    with pytest.raises(ConfigError, match="10 tokens, less than one window of context 10"):
        ScoringWindows.spread_over(stream, num_tokens=100, context=10)
