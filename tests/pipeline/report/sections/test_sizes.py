from __future__ import annotations

from typing import Any

import pytest


def test_sizes_stand_beside_the_run_smallest_first(whole: Any) -> None:
    report = whole.report
    small, own = report.sizes
    assert (small.name, own.name) == ("small", "this run")
    assert small.params < own.params == report.arms.scratch.params
    assert small.gain.mean == 0.0, "the same weights in all its arms"
    assert own.scratch.mean == report.arms.scratch.val_bits_per_byte.per_seed[0]
    assert own.gain.mean == pytest.approx(own.scratch.mean - own.finetune.mean, abs=1e-5)


def test_arithmetic_of_pretraining_grows_with_the_model(whole: Any) -> None:
    small, own = whole.report.sizes
    assert small.pretraining_flops < own.pretraining_flops
    assert (own.learning_rates.scratch, own.learning_rates.finetune) == (2e-3, 2e-3)


def test_a_run_alone_has_no_sizes(written: Any) -> None:
    assert written.report.sizes == ()
