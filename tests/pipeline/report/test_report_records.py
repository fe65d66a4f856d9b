from __future__ import annotations

import pytest
from pydantic import ValidationError

from pipeline.evaluation.intervals import Estimate
from pipeline.report.report_records import (
    OrLeftOut,
    ReportedDifference,
    ReportedLoss,
    ReportedMean,
    ReportRecord,
    came_later,
)

ESTIMATE = Estimate(mean=2.0, low=1.5, high=2.5, p_value=0.25, per_seed=(1.9, 2.1))


class Entry(ReportRecord):
    model_config = came_later("note")
    name: str
    seeds: OrLeftOut[tuple[int, ...]] = None
    rate: float | None
    note: str


def test_an_estimate_becomes_the_record_that_is_asked_for() -> None:
    assert ReportedMean.of(ESTIMATE) == ReportedMean(mean=2.0, ci95=(1.5, 2.5))
    assert ReportedLoss.of(ESTIMATE).per_seed == (1.9, 2.1)
    assert ReportedDifference.of(ESTIMATE).written() == {"mean": 2.0, "ci95": (1.5, 2.5), "p_value": 0.25}


def test_only_a_field_that_is_marked_is_left_out_when_it_is_none() -> None:
    assert Entry(name="a", rate=None, note="").written() == {"name": "a", "rate": None, "note": ""}
    assert list(Entry(name="a", seeds=(1,), rate=0.5, note="").written()) == ["name", "seeds", "rate", "note"]


def test_schema_requires_neither_what_is_left_out_nor_what_came_later() -> None:
    schema = Entry.model_json_schema()
    assert schema["required"] == ["name", "rate"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["seeds"] == {"items": {"type": "integer"}, "title": "Seeds", "type": "array"}


def test_a_record_has_no_other_field_and_does_not_change() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        ReportedMean.model_validate({"mean": 1.0, "ci95": (0.5, 1.5), "median": 1.0})
    with pytest.raises(ValidationError, match="frozen"):
        ReportedMean(mean=1.0, ci95=(0.5, 1.5)).mean = 2.0  # type: ignore[misc]
