"""The loss on held-out text, and the windows that it is taken over."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt.loss import IGNORED, LossSum
from pipeline.distributed.world import World
from pipeline.errors import ConfigError
from pipeline.tokens.scoring_windows import ScoringWindows
from pipeline.tokens.shard import Rows, ShardInfo, TokenStream, write_shard
from pipeline.training.deepspeed_config import EngineSettings
from pipeline.training.validation import evaluate


class FakeEngine:
    """The loss of a target is its own number, summed in float32 as the real one does."""

    world, device, settings = World(), torch.device("cpu"), EngineSettings(micro_batch=2, accumulation=1)

    def __init__(self) -> None:
        self.dropout, self.forwards = True, 0

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        self.dropout = False
        yield
        self.dropout = True

    def loss(self, inputs: np.ndarray, targets: np.ndarray) -> LossSum:
        assert not self.dropout, "the loss on held-out text is that of the whole model"
        self.forwards += 1
        counted = torch.from_numpy(targets[targets != IGNORED])
        return LossSum(counted.float().sum(), torch.tensor(float(len(counted))))


@pytest.mark.usefixtures("one_rank")
def test_loss_is_the_mean_over_counted_targets_whatever_the_micro_batches() -> None:
    targets = np.array([[1, 2], [3, IGNORED], [IGNORED, 10]])
    engine = FakeEngine()
    loss = evaluate(engine, ScoringWindows(np.zeros_like(targets), targets))  # type: ignore[arg-type]
    assert loss == (1 + 2 + 3 + 10) / 4
    assert engine.forwards == 2, "three windows, two at a time"
    assert engine.dropout, "training goes on with it"


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
