from __future__ import annotations

import json

import pytest

from pipeline.corpus.json_values import UnclosedJson, is_spread, split_values

VALUES = [
    {"text": 'quotes " and \\ and ] } , [ {', "n": [1, {"a": []}]},
    {"text": "a\nb", "empty": {}},
    "text",
    7.5,
    [1, [2]],
    None,
    {"text": 'ends in a backslash \\"'},
]


def parsed(data: bytes, piece_bytes: int = 1_000_000) -> list[object]:
    pieces = [data[start : start + piece_bytes] for start in range(0, len(data), piece_bytes)]
    return [json.loads(value) if value is not None else ... for value in split_values(pieces, longest=1_000)]


@pytest.mark.parametrize("indent", [None, 0, 2, 4])
@pytest.mark.parametrize("piece_bytes", [1, 2, 3, 7, 1_000_000])
def test_elements_of_an_array_come_back_however_it_is_cut_and_indented(indent: int | None, piece_bytes: int) -> None:
    assert parsed(json.dumps(VALUES, indent=indent).encode(), piece_bytes) == VALUES


@pytest.mark.parametrize("piece_bytes", [1, 5, 1_000_000])
def test_objects_that_follow_each_other_come_back(piece_bytes: int) -> None:
    objects = [value for value in VALUES if isinstance(value, dict)]
    assert parsed("\n".join(json.dumps(value, indent=2) for value in objects).encode(), piece_bytes) == objects


@pytest.mark.parametrize("data", [b"[]", b" [ ] \n", b"[{}]\n\n", b""])
def test_nothing_gives_no_value(data: bytes) -> None:
    assert [value for value in parsed(data) if value] == []


def test_a_value_that_is_no_json_is_the_only_one_that_is_lost() -> None:
    values = split_values([b'[{"text": 1}, {oops}, {"text": 2}]'], 100)
    assert list(values) == [b'{"text": 1}', b"{oops}", b'{"text": 2}']


def test_a_value_over_the_limit_is_given_up_and_the_next_one_read() -> None:
    data = json.dumps(["short", "x" * 2_000, {"text": "next"}]).encode()
    assert parsed(data, 100) == parsed(data) == ["short", ..., {"text": "next"}]


@pytest.mark.parametrize("data", [b"[", b'[{"a": 1}', b'[{"a": 1}, ', b'{"a": "b', b'["a]', b'["a\\'])
def test_an_end_inside_of_a_value_is_noticed(data: bytes) -> None:
    with pytest.raises(UnclosedJson):
        parsed(data)


@pytest.mark.parametrize(
    ("head", "spread"),
    [
        (b'[{"text": 1}]', True),
        (b" \n[", True),
        (b'{\n "text": 1}', True),
        (b'{"id": 3,\n "text": 1}', True),
        (b'{"text": 1}\n{"text": 2}', False),
        (b'{"text": 1}', False),
        (b'{"text": "cut', False),
        (b'{"text": "cut\n{"text": 2}', False),
        (b"", False),
    ],
)
def test_json_lines_are_told_from_an_array_and_a_spread_object(head: bytes, spread: bool) -> None:
    assert is_spread(head) is spread
