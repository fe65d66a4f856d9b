"""Hostfiles are read strictly, and refused with the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.distributed.hostfile import Host, read_hostfile
from pipeline.errors import ConfigError


def test_hosts_come_in_file_order(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("# two machines\nnode-b  slots=4   # the big one\n\n10.0.0.2\tslots=2\n")
    assert read_hostfile(path) == (Host("node-b", 4), Host("10.0.0.2", 2))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("b slots=two", "slots=two"),
        ("b slots=0", "slots=0"),
        ("b", "not slots=NUMBER"),
        ("b slots=2 extra", "slots=2 extra"),
        ("b;touch${IFS}x slots=2", "not a host name"),
        ("$(touch x) slots=2", "not a host name"),
        ("-oProxyCommand=x slots=2", "not a host name"),
        ("a slots=2", "appears twice"),
    ],
)
def test_bad_line_is_refused_by_its_number(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "hosts"
    path.write_text(f"a slots=1\n{line}\n")
    with pytest.raises(ConfigError, match="line 2") as refused:
        read_hostfile(path)
    assert reason in str(refused.value)


@pytest.mark.parametrize("content", ["", "# nobody\n", None])
def test_empty_or_missing_hostfile_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "hosts"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match="hosts"):
        read_hostfile(path)
