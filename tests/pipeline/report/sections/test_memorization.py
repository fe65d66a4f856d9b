from __future__ import annotations

from typing import Any

import pytest
import torch

from pipeline.report.finished_run import FinishedRun
from pipeline.report.sections.memorization import pretraining_section


def test_pretraining_gap_compares_equal_numbers_of_windows(written: Any) -> None:
    pretrain = written.report.pretrain
    assert (pretrain.tokens, pretrain.steps) == (1280, 20)
    assert pretrain.windows == 16  # evaluate_tokens 256 / context 16
    assert pretrain.gap == pytest.approx(pretrain.val_nats_per_token - pretrain.train_nats_per_token, abs=1e-5)
    low, high = pretrain.gap_ci95
    assert low < pretrain.gap < high


def test_no_gap_without_a_corpus_or_with_one_window(chain: Any) -> None:
    chain.reconfigured("pretrain", evaluate_tokens=31)
    assert pretraining_section(FinishedRun.of(chain.work()), torch.device("cpu")) is None
    chain.without_pretraining()
    assert pretraining_section(FinishedRun.of(chain.work("alone")), torch.device("cpu")) is None
