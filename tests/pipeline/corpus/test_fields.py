from __future__ import annotations

from typing import Any

import pytest

from pipeline.corpus.fields import MAX_KEYS, MISSING, closest_key, outer_keys, text_keys, value_at


@pytest.mark.parametrize(
    ("record", "field", "value"),
    [
        ({"text": "a"}, "text", "a"),
        ({"data": {"text": "a"}}, "data.text", "a"),
        ({"data": {"text": "a"}, "data.text": "b"}, "data.text", "b"),
        ({"a": {"b.c": 1}}, "a.b.c", 1),
        ({"a.b": {"c": 1}}, "a.b.c", 1),
        ({"a.b": {"d": 1}, "a": {"b": {"c": 2}}}, "a.b.c", 2),
        ({"data": {"text": None}}, "data.text", None),
        ({"data": None}, "data.text", MISSING),
        ({"data": ["text"]}, "data.text", MISSING),
        ({"data": {"txt": 1}}, "data.text", MISSING),
        ({"": 1}, ".", MISSING),
        ({}, "text", MISSING),
    ],
)
def test_value_stands_under_the_key_or_at_the_end_of_the_path(record: dict[str, Any], field: str, value: Any) -> None:
    assert value_at(record, field) is value or value_at(record, field) == value


def test_outer_keys_are_where_a_path_may_begin() -> None:
    assert outer_keys("a.b.c") == {"a", "a.b", "a.b.c"}


def test_keys_are_dotted_and_know_how_much_text_they_hold() -> None:
    record = {"id": 7, "data": {"text": "four", "more": {"x": "y"}}, "none": {}, "half \ud800": "abc"}
    keys = {"id": 0, "data.text": 4, "data.more.x": 1, "none": 0, "half \\ud800": 3}
    assert text_keys(record) == tuple(keys.items())
    assert len(text_keys({str(n): "" for n in range(1_000)})) == MAX_KEYS


def test_proposal_is_the_same_name_elsewhere_or_else_the_most_text() -> None:
    assert closest_key("text", {"id": 90, "data.text": 10, "raw.text": 12}) == "raw.text"
    assert closest_key("text", {"id": 9, "content": 3_000, "url": 50}) == "content"
    assert closest_key("text", {"n": 0}) is None
    assert closest_key("text", {}) is None
