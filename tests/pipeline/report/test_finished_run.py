from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.errors import DataError
from pipeline.report.finished_run import FinishedRun


def test_variants_are_found_by_what_they_are(whole_run: FinishedRun) -> None:
    assert whole_run.leak is not None and whole_run.leak.finetune.name == "finetune"
    assert [rival.name for rival in whole_run.rivals] == ["fewer steps", "short"]
    assert [size.name for size in whole_run.sizes] == ["small", "this run"]


def test_a_plain_run_is_compared_with_nothing(chain: Any) -> None:
    run = FinishedRun.of(chain.work())
    assert (run.points, run.leak, run.rivals, run.sizes) == ((), None, (), ())
    assert list(run.by_name) == list(chain.artifacts)


def test_a_point_is_the_refit_of_its_branch(whole_run: FinishedRun) -> None:
    assert [point.tokens for point in whole_run.points] == [64, 128, 256, 640, 1280]
    first, *_, last = whole_run.points
    assert first.pretrained.parent.name == "step-00000001"
    assert first.finetuned.folder.name == "refit-lr-0.002-seed-1"
    assert last.finetuned == whole_run.arms[-1].trials[0], "the whole pretraining's own finetuning"


def test_imported_weights_have_no_points(chain: Any) -> None:
    assert FinishedRun.of(chain.work()).imported_files is None
    chain.artifacts["pretrain"] = replace(
        chain.artifacts["pretrain"],
        manifest=chain.artifacts["pretrain"].manifest.model_copy(
            update={
                "counts": {
                    "parameters": 3,
                    "imported_files": {"model.safetensors": "ab"},
                    "largest_logit_difference": 0.0,
                }
            }
        ),
    )
    run = FinishedRun.of(chain.work("imported"))
    assert (run.imported_files, run.points) == ({"model.safetensors": "ab"}, ())


def test_counts_that_say_something_else_are_refused_by_field(chain: Any) -> None:
    chain.recounted("scratch", learning_rate="high")
    with pytest.raises(DataError, match=r"counts\.learning_rate"):
        FinishedRun.of(chain.work())
