"""The program, in this process or in its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.program import app


@pytest.fixture
def invoke() -> Callable[..., Any]:
    """invoke(*arguments): what a command printed (`stdout`), and the error that it raised (`exception`)."""
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])
