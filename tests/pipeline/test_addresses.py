from __future__ import annotations

import pytest

from pipeline.addresses import user_and_address, without_secrets, without_secrets_in
from pipeline.errors import ConfigError

SHOWN = [
    ("https://example.org/a.jsonl", "https://example.org/a.jsonl"),
    ("https://me:canary@example.org:8080/a.jsonl", "https://example.org:8080/a.jsonl"),
    ("https://canary@example.org/a.jsonl", "https://example.org/a.jsonl"),
    ("https://me:can@ary@example.org/a.jsonl", "https://example.org/a.jsonl"),
    ("https://me:canary/canary@example.org/a", "https://example.org/a"),
    ("https://me:canary#canary@example.org/a", "https://example.org/a"),
    ("https://me:canary?canary@example.org/a?canary", "https://example.org/a?***"),
    ("s3://key:canary@bucket/a.jsonl", "s3://bucket/a.jsonl"),
    ("http://127.0.0.1:80/@scope/a.jsonl", "http://127.0.0.1:80/@scope/a.jsonl"),
    ("http://[::1]:80/@scope/a.jsonl", "http://[::1]:80/@scope/a.jsonl"),
    ("https://example.org/a?token=canary&part=canary#canary", "https://example.org/a?token=***&part=***"),
    ("https://example.org/a?token=canary;part=canary", "https://example.org/a?token=***&part=***"),
    ("https://example.org?token=canary", "https://example.org?token=***"),
    ("https://example.org/a?canary", "https://example.org/a?***"),
    ("https://example.org/a?token=${TOKEN}&x=$X&y=$X-canary", "https://example.org/a?token=${TOKEN}&x=$X&y=***"),
    ("https://${USER}:${PASSWORD}@example.org/${TOKEN}/a", "https://example.org/${TOKEN}/a"),
    ("https://me:canary@[broken/a", "https://[broken/a"),
    ("texts/what?.txt", "texts/what?.txt"),
    ("", ""),
]


@pytest.mark.parametrize(("address", "shown"), SHOWN)
def test_nothing_that_lets_somebody_in_is_shown(address: str, shown: str) -> None:
    assert without_secrets(address) == shown
    assert without_secrets(shown) == shown


@pytest.mark.parametrize(("address", "shown"), SHOWN)
@pytest.mark.parametrize("text", ["{}: the server answers 404.", "see '{}'.", '[{{url: "{}"}}]', "({}), {}"])
def test_addresses_within_a_text_are_shown_alike(text: str, address: str, shown: str) -> None:
    assert without_secrets_in(text.format(address, address)) == text.format(shown, shown)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Max retries exceeded with url: /a?token=canary (x)", "Max retries exceeded with url: /a?token=*** (x)"),
        ("no control characters: '/a b?token=canary&x=canary'", "no control characters: '/a b?token=***&x=***'"),
        ("two lines\nhttps://me:canary@h/a\n", "two lines\nhttps://h/a\n"),
        ("'https://h/a?token=can'ary' is not", "'https://h/a?token=***' is not"),
        ("texts/what?.txt: no file. 3 < 4, a@b.c", "texts/what?.txt: no file. 3 < 4, a@b.c"),
    ],
)  # fmt: skip
def test_what_libraries_say_of_addresses_is_shown_without_secrets(text: str, shown: str) -> None:
    assert without_secrets_in(text) == shown


def test_a_long_text_takes_no_time() -> None:
    assert without_secrets_in("k" * 1_000_000) == "k" * 1_000_000


def test_no_refusal_repeats_a_secret_whoever_quotes_it() -> None:
    error = ConfigError("https://me:canary@h/a?token=canary: 403.", remedy="Check https://h/a?token=canary.")
    assert str(error) == "https://h/a?token=***: 403. Check https://h/a?token=***."
    assert "canary" not in repr(error) + error.message + error.remedy + str(error.args)
    rebuild, arguments = error.__reduce__()
    assert str(rebuild(*arguments)) == str(error)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://me:a%40b@h:80/x?y@z", ("me:a%40b", "https://h:80/x?y@z")),
        ("https://h/x@y", ("", "https://h/x@y")),
        ("https://@h/x", ("", "https://h/x")),
        ("no address@all", ("", "no address@all")),
    ],
)
def test_user_and_address_come_apart(address: str, expected: tuple[str, str]) -> None:
    assert user_and_address(address) == expected
