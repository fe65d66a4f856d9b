from __future__ import annotations

import io
import time
import traceback
from typing import Any

import pytest

from pipeline.errors import ConfigError, DataError, EnvironmentFault, FolioError
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


# Secrets


def with_user(address: str, user: str) -> str:
    return address.replace("://", f"://{user}@")


def test_user_and_password_of_an_address_are_given_to_its_server(site: Any) -> None:
    site.files["/file"], site.user = CONTENT, "me:ca@na/ry é"
    address = with_user(f"{site.address}/file", "me:ca%40na%2Fry%20%C3%A9")
    assert io.BufferedReader(HttpFile(address)).read() == CONTENT


def test_variables_are_filled_in_when_the_server_is_asked(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "canary")
    site.files["/canary/file"], site.token, site.user = CONTENT, "canary", "canary:canary"
    file = HttpFile(with_user(f"{site.address}/${{TOKEN}}/file?token=$TOKEN", "$TOKEN:${TOKEN}"))
    assert io.BufferedReader(file).read() == CONTENT
    assert file.shown == f"{site.address}/${{TOKEN}}/file?token=$TOKEN"


def test_a_password_is_not_sent_along_to_another_server(site: Any) -> None:
    site.files["/file"] = CONTENT
    site.faults = [f"{site.address.replace('127.0.0.1', 'localhost')}/file", 401]
    with pytest.raises(ConfigError, match="401 Unauthorized"):
        HttpFile(with_user(f"{site.address}/file", "me:canary")).read(1)
    site.faults, site.user = [f"{site.address}/file"], ""
    assert HttpFile(with_user(f"{site.address}/file", "me:canary")).read(1) == CONTENT[:1]
    assert site.authorizations == ["Basic bWU6Y2FuYXJ5", None, "Basic bWU6Y2FuYXJ5", None]


REFUSALS = [
    (401, "Check the token, or user and password, of the address in the config"),
    (403, "Check the token, or user and password, of the address in the config"),
    (404, "Check the address in the config"),
    (500, "Check the network"),
    (299, "Check the network"),
]


@pytest.mark.parametrize(("status", "remedy"), REFUSALS)
def test_no_refusal_of_a_server_repeats_a_secret(
    site: Any, status: int, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "canary")
    site.faults = [status] * 9 if status != 299 else ["http://127.0.0.1:9/canary?token=canary"] * 9
    address = with_user(f"{site.address}/${{TOKEN}}/a?token=canary&t=${{TOKEN}}", "canary:canary")
    with pytest.raises(FolioError) as caught:
        HttpFile(address, attempts=2, backoff_seconds=0.01).read(1)
    assert str(caught.value).startswith(f"{site.address}/${{TOKEN}}/a?token=***&t=${{TOKEN}}: ")
    assert remedy in str(caught.value)
    assert "canary" not in str(caught.value) + "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "address",
    ["http://me:can/ary@127.0.0.1/a", "http://127.0.0.1:canary/a", "http://[canary/a?token=canary",
     f"http://{'canary' * 20}.org/a", "http://canary..org/a"],
)  # fmt: skip
def test_an_address_that_cannot_be_opened_is_refused_without_its_secret(address: str) -> None:
    with pytest.raises(ConfigError, match="cannot be opened as an address") as caught:
        HttpFile(address).read(1)
    assert "token=canary" not in str(caught.value)
    assert "ary@" not in str(caught.value)


def test_the_remedy_for_a_slash_in_a_password_works(site: Any) -> None:
    site.files["/file"], site.user = CONTENT, "me:can/ary"
    with pytest.raises(ConfigError, match="such as %2F for a slash"):
        HttpFile(with_user(f"{site.address}/file", "me:can/ary")).read(1)
    assert HttpFile(with_user(f"{site.address}/file", "me:can%2Fary")).read(1) == CONTENT[:1]


def test_spaces_and_letters_of_other_alphabets_may_stand_in_an_address(site: Any) -> None:
    site.files["/caf%C3%A9%20x"] = CONTENT
    assert HttpFile(f"{site.address}/café x").read(1) == CONTENT[:1]


def test_a_password_of_a_proxy_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://me:canary@127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(EnvironmentFault) as caught:
        HttpFile("http://example.invalid/a", attempts=1).read(1)
    assert "canary" not in str(caught.value)


def test_an_unset_variable_of_an_address_is_named() -> None:
    with pytest.raises(ConfigError, match="the variable NO_SUCH_TOKEN is not set"):
        HttpFile("http://127.0.0.1:9/a?token=${NO_SUCH_TOKEN}")
