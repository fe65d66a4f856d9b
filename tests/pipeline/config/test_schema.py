"""What the config tree itself refuses, and how its fields enter fingerprints."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.config.schema import Config


@pytest.mark.parametrize(
    ("values", "refusal"),
    [
        ({"target": {"name": "tiny-shakespeare", "path": "x"}}, "give exactly one of name, path or hub"),
        ({"corpus": {"sources": [{"path": "a", "url": "https://b"}]}}, "give exactly one of path, url or hub"),
        ({"corpus": {"sources": [{"path": "a", "weight": 0}]}}, "weight 0.0 is not above 0"),
        ({"pretrained": {"path": "gpt2"}, "corpus": {"fallback": True}}, "not both"),
        ({"report": {"rivals": {"leak": {"scratch.clip": 0}}}}, "the name 'leak' is taken"),
        ({"ablation": {"seeds": [1]}}, "at least 2 items"),
        ({"name": "../x"}, "should match pattern"),
    ],
)
def test_contradictions_are_refused(values: dict[str, Any], refusal: str) -> None:
    with pytest.raises(ValidationError, match=refusal):
        Config.model_validate({"name": "x", **values})
