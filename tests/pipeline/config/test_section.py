"""What every section of the config has in common."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from pipeline.config.schema import Config


def test_a_section_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config(name="x").launch.ranks = 3  # type: ignore[misc]
