from __future__ import annotations

import io
import time
from typing import Any

import pytest

from pipeline.errors import ConfigError, DataError, EnvironmentFault
from pipeline.inputs.http_file import HttpFile

CONTENT = bytes(range(256)) * 2_000


def fetch(site: Any, **options: Any) -> bytes:
    with io.BufferedReader(HttpFile(f"{site.address}/file", backoff_seconds=0.01, **options)) as file:
        return file.read()


def test_file_is_read_to_its_end(site: Any) -> None:
    site.files["/file"] = CONTENT
    assert fetch(site) == CONTENT


def test_three_503_then_an_answer_gives_the_same_bytes(site: Any) -> None:
    site.files["/file"], site.faults = CONTENT, [503, 503, 503]
    assert fetch(site) == CONTENT
    assert len(site.requests) == 4


def test_dropped_connection_continues_where_it_broke(site: Any) -> None:
    site.files["/file"], site.faults = CONTENT, ["drop", "drop"]
    assert fetch(site) == CONTENT
    assert site.requests == ["whole", "bytes=256000-", "bytes=384000-"]


def test_server_without_ranges_is_read_again_and_skipped(site: Any) -> None:
    site.files["/file"], site.faults, site.ranges = CONTENT, ["drop"], False
    assert fetch(site) == CONTENT


def test_announced_length_that_never_comes_is_refused(site: Any) -> None:
    site.files["/file"], site.faults = CONTENT, ["lie"] * 9
    with pytest.raises(EnvironmentFault, match=r"at byte 512,000, 3 times in a row"):
        fetch(site, attempts=3)


def test_missing_file_is_refused_at_once(site: Any) -> None:
    with pytest.raises(ConfigError, match="404"):
        fetch(site)
    assert len(site.requests) == 1


def test_attempts_are_bounded(site: Any) -> None:
    site.files["/file"], site.faults = CONTENT, [503] * 9
    with pytest.raises(EnvironmentFault, match="503 Service Unavailable"):
        fetch(site, attempts=3)
    assert len(site.requests) == 3


def test_file_that_changes_under_the_reader_is_refused(site: Any) -> None:
    site.files["/file"], site.headers["ETag"] = CONTENT, "one"
    with HttpFile(f"{site.address}/file") as file:
        file.read(10)
        site.headers["ETag"] = "two"
        file.seek(100)
        with pytest.raises(DataError, match="changed while it was read"):
            file.read(10)


def test_seeking_reads_from_there(site: Any) -> None:
    site.files["/file"] = CONTENT
    with HttpFile(f"{site.address}/file") as file:
        assert file.seek(-6, io.SEEK_END) == len(CONTENT) - 6
        assert file.read() == CONTENT[-6:]
        file.seek(300)
        assert file.read(4) == CONTENT[300:304]


def test_closed_port_is_refused_in_seconds() -> None:
    began = time.monotonic()
    with pytest.raises(EnvironmentFault, match="refused"):
        HttpFile("http://127.0.0.1:9/file").read(1)
    assert time.monotonic() - began < 10
