"""The keys about text."""

from __future__ import annotations

from pipeline.config.text_sections import SourceSection


def test_a_source_is_named_after_its_origin() -> None:
    assert SourceSection(hub="a/b").name == "a/b"
    assert SourceSection(name="books", path="x").name == "books"
