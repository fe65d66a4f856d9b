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


def test_without_a_held_out_part_the_trained_side_stands_alone(chain: Any) -> None:
    with_gap = pretraining_section(FinishedRun.of(chain.work()), torch.device("cpu"))
    chain.recounted("shards", corpus_validation={"documents": 0, "tokens": 0, "bytes": 0})
    alone = pretraining_section(FinishedRun.of(chain.work("alone")), torch.device("cpu"))
    assert with_gap is not None and alone is not None
    assert alone.train_nats_per_token == with_gap.train_nats_per_token
    assert (alone.val_nats_per_token, alone.gap, alone.gap_ci95, alone.validation_documents) == (None, None, None, 0)
    assert alone.batch_tokens == 64


def test_no_gap_without_a_corpus_or_with_one_window(chain: Any) -> None:
    chain.reconfigured("pretrain", evaluate_tokens=31)
    assert pretraining_section(FinishedRun.of(chain.work()), torch.device("cpu")) is None
    chain.without_pretraining()
    assert pretraining_section(FinishedRun.of(chain.work("alone")), torch.device("cpu")) is None
