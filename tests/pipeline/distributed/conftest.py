"""A job without a stage behind it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.schema import LaunchSection
from pipeline.distributed.job import Job


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job that is written to its folder."""
    job = Job("pretrain", {}, {}, {}, str(tmp_path), LaunchSection())
    job.write()
    return job
