from __future__ import annotations

import pytest
from pydantic import ValidationError

from pipeline.config.encoding import encoding_name
from pipeline.config.text_sections import SourceSection, TargetSection


@pytest.mark.parametrize(
    ("written", "name"),
    [("Windows-1252", "cp1252"), ("latin-1", "iso8859-1"), ("UTF-16LE", "utf-16-le"), ("utf8", "utf-8"), (None, None)],
)
def test_names_are_spelt_one_way(written: str | None, name: str | None) -> None:
    assert encoding_name(written) == name
    assert SourceSection(path="a.txt", encoding=written).encoding == name


@pytest.mark.parametrize("written", ["cp125", "base64", "rot13", "undefined", "unicode_escape", "a\0b", "", 7, []])
def test_what_is_no_encoding_of_text_files_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="is not a text encoding that Python knows, such as cp1252"):
        encoding_name(written)


@pytest.mark.parametrize("section", [SourceSection, TargetSection])
def test_rows_of_the_hub_have_no_encoding(section: type[SourceSection | TargetSection]) -> None:
    with pytest.raises(ValidationError, match="encoding is for"):
        section(hub="me/texts", encoding="cp1252")
