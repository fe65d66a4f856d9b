import json
import math
from pathlib import Path

import pytest

from pipeline.experiments.ladder.climb import RungResult, read_report, scaled_up, seeds_interval, steps_down


def test_interval_of_three_seeds_is_student_t_with_two_degrees_of_freedom():
    low, high = seeds_interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)), abs=1e-5)


def test_one_seed_has_no_interval():
    assert seeds_interval([2.0]) is None


@pytest.mark.parametrize(("loss", "close"), [(2.419, True), (2.391, True), (2.421, False), (2.379, False)])
def test_close_means_within_two_hundredths_on_either_side(loss, close):
    assert RungResult("one-head", 2.4, losses=(loss,)).close is close


def test_a_rung_that_was_not_run_is_neither_close_nor_far():
    assert (RungResult("scaled-up", 1.48).mean, RungResult("scaled-up", 1.48).close) == (None, None)


def test_steps_down_passes_over_what_was_not_run():
    losses = (2.5, None, 2.4, 2.45, 2.1)
    assert steps_down([RungResult("x", 2.0, losses=() if loss is None else (loss,)) for loss in losses]) == 2


def test_the_last_rung_is_read_from_the_report_of_an_ordinary_run(tmp_path):
    content = json.loads(Path("docs/results/shakespeare-cpu.json").read_text())
    loss = {"mean": 1.481, "ci95": [1.45, 1.51], "per_seed": [1.481]}
    content["arms"]["scratch"] |= {"val_nats_per_char": loss, "params": 10_790_467, "best_step": 2500, "steps": 5000}
    (tmp_path / "report.json").write_text(json.dumps(content))
    result = scaled_up(read_report(tmp_path))
    assert (result.rung, result.mean, result.interval) == ("scaled-up", 1.481, (1.45, 1.51))
    assert result.parameters == 10_790_467
    assert result.close is True
    assert result.note == "best step 2,500 of 5,000"
    assert result.sample == content["samples"]["scratch"]
    assert result.commits == (content["provenance"]["git_commit"],)
