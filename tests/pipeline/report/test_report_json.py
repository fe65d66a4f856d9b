"""report.json against its schema, and the way into it and back."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pipeline.report.report_json import Report, json_text, schema_text, to_json

ROOT = Path(__file__).parents[3]
SCHEMA = ROOT / "docs" / "report.schema.json"
COMMITTED = ROOT / "docs" / "results" / "shakespeare-cpu.json"
MAKE_SCHEMA = "python -m pipeline.report.report_json > docs/report.schema.json"


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    content = json.loads(SCHEMA.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(content)
    return Draft202012Validator(content)


def complaints(schema: Draft202012Validator, content: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in schema.iter_errors(content)]


def test_committed_schema_is_that_of_the_records() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == schema_text(), f"The records have changed. Run: {MAKE_SCHEMA}"


def test_committed_report_fits_the_schema_and_comes_back_the_same(schema: Draft202012Validator) -> None:
    text = COMMITTED.read_text(encoding="utf-8")
    assert complaints(schema, json.loads(text)) == []
    assert json_text(Report.model_validate(json.loads(text))) == text


def test_fresh_reports_fit_the_schema(schema: Draft202012Validator, written: Any, whole: Any) -> None:
    for report in (written, whole):
        assert complaints(schema, report.content) == []


def test_report_of_scratch_alone_fits_the_schema(schema: Draft202012Validator, chain: Any, write: Any) -> None:
    chain.without_pretraining()
    assert complaints(schema, write(chain).content) == []


@pytest.mark.parametrize(
    ("place", "change"),
    [
        ((), {"verdict": "yes"}),
        ((), {"format": 2}),
        (("arms",), {"bigram": {}}),
        (("arms", "scratch"), {"steps": "30"}),
        (("arms", "scratch"), {"steps_per_seed": None}),
        (("controls",), {"same_grid_size": None}),
        (("gain", "bits_per_byte"), {"ci95": [1.0]}),
        (("cost", "scratch"), {"dollars": 1.0}),
        (("leak",), {"memory": {"mean": 0.0, "ci95": [0.0, 0.0]}}),
    ],
)
def test_schema_refuses_what_is_not_format_1(
    schema: Draft202012Validator, whole: Any, place: tuple[str, ...], change: dict[str, Any]
) -> None:
    content = copy.deepcopy(whole.content)
    entry = content
    for name in place:
        entry = entry[name]
    entry.update(change)
    assert complaints(schema, content)


def test_fields_that_came_later_may_be_missing_and_others_may_not(schema: Draft202012Validator, written: Any) -> None:
    old = copy.deepcopy(written.content)
    for name in ("curve", "leak", "sizes", "rivals", "imported"):
        del old[name]
    del old["cost"]["scratch"]["ranks"]
    assert complaints(schema, old) == []
    del old["caveats"]
    assert complaints(schema, old) == ["$: 'caveats' is a required property"]


def test_floats_keep_six_digits_wherever_they_are() -> None:
    assert to_json(1.23456789) == 1.23457
    assert to_json({"a": (0.000123456789, 1, True, None), "b": "1.23456789"}) == {
        "a": [0.000123457, 1, True, None],
        "b": "1.23456789",
    }


def test_page_and_file_hold_the_same_numbers(written: Any) -> None:
    report = written.report
    exact = report.model_copy(update={"target": report.target.model_copy(update={"val_tokens": 7})})
    gap = report.pretrain.model_copy(update={"gap": 0.123456789})
    published = exact.model_copy(update={"pretrain": gap}).as_published()
    assert (published.pretrain.gap, published.target.val_tokens) == (0.123457, 7)
    assert published.as_published() == published


def test_a_number_that_is_not_finite_is_refused(written: Any) -> None:
    gap = written.report.pretrain.model_copy(update={"gap": math.nan})
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text(written.report.model_copy(update={"pretrain": gap}))
