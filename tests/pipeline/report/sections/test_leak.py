from __future__ import annotations

from typing import Any


def test_leak_of_the_same_weights_is_no_memory(whole: Any) -> None:
    report = whole.report
    leak = report.leak
    assert leak.val_ngrams_left_in_shards == 7
    assert (leak.documents_left_in, leak.bytes_left_in, leak.val_ngrams_total) == (2, 640, 70)
    assert leak.memory.mean == 0.0 and leak.memory.p_value > 0.9
    gain = report.gain.bits_per_byte
    assert (leak.gain.mean, leak.gain.ci95) == (gain.mean, gain.ci95)
    assert leak.finetune.mean == report.arms.finetune.val_bits_per_byte.mean
    assert leak.zero_shot.mean == report.arms.zero_shot.val_bits_per_byte.mean


def test_a_run_without_the_ablation_has_no_leak(written: Any) -> None:
    assert written.report.leak is None
