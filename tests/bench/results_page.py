"""A page under docs/results: a heading, what was measured and how, one table, and where it was measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def results_page(
    heading: str,
    about: Sequence[str],
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    records: Iterable[Mapping[str, Any]],
) -> str:
    """The page in Markdown. `about` are its lines of prose; `records` name machine, commit and date."""
    table = [columns, ["---"] * len(columns), *rows]
    lines = ["# " + heading, "", *about, "", *(f"| {' | '.join(map(str, row))} |" for row in table), ""]
    places = sorted({f"{one['machine']}, commit {one['commit']}, {one['date']}." for one in records})
    return "\n".join([*lines, *places, ""])
