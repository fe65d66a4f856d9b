"""Bytes from the web that survive a dropped connection: every failure is retried a bounded number of times.

What an address holds of secrets is used in here and shown nowhere: variables are filled in when the server is asked,
user and password go into a header, and messages name the address as the config may be shown.
"""

from __future__ import annotations

import base64
import http.client
import io
import string
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import TypeVar

from pipeline.addresses import user_and_address, without_secrets
from pipeline.errors import ConfigError, DataError, EnvironmentFault
from pipeline.inputs.data_paths import filled_in

# Answers that another attempt may change: timeouts, rate limits, and a server or proxy in trouble. 404 is none of them.
RETRIED_STATUS = {408, 425, 429, 500, 502, 503, 504}
UNAUTHORIZED = {401, 403}
WELL_FORMED = "Write https://HOST/PATH; percent-encode what is special in user and password, such as %2F for a slash."
LONGEST_WAIT_SECONDS = 30.0
SKIP_BYTES = 1 << 20
Answer = TypeVar("Answer")


class HttpFile(io.RawIOBase):
    """One http(s) address, as the config writes it, as a readable, seekable file.

    `user:password@` before the host is HTTP's basic authentication; percent signs in it are undone.

    After a failure it continues at the byte it had reached (Range request, RFC 9110 section 14). It gives up after
    `attempts` failures in a row without a new byte, and waits backoff_seconds * 1, 2, 4, ... between them, or what the
    server asks for in Retry-After.

    Raises ConfigError if the server refuses the address (404, 403, ...) or it has an unset variable, EnvironmentFault
    when attempts are used up or the file ends before its announced length, DataError if the file changes while it is
    read.
    """

    def __init__(
        self, url: str, *, attempts: int = 5, timeout_seconds: float = 10.0, backoff_seconds: float = 0.25
    ) -> None:
        super().__init__()
        self.shown, self.attempts = without_secrets(url), attempts
        user, self._address = user_and_address(filled_in(url, self.shown))
        self._authorization = _basic(user)
        self.timeout_seconds, self.backoff_seconds = timeout_seconds, backoff_seconds
        self.position = 0
        self.length: int | None = None
        self._etag: str | None = None
        self._response: http.client.HTTPResponse | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END and self.announced_bytes() is None:
            raise io.UnsupportedOperation(f"{self.shown} does not announce its length")
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.length or 0}[whence]
        if base + offset != self.position:
            # The next read connects again, with a Range request for the new position.
            self._disconnect()
            self.position = base + offset
        return self.position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._retried(lambda: self._read(len(buffer)))
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)

    def announced_bytes(self) -> int | None:
        """The length that the server names, None if it names none. Asks the server if nothing was read yet."""
        if self._response is None:
            self._retried(self._connect)
        return self.length

    def validator(self) -> dict[str, str]:
        """What the server says to tell this file from another one: its ETag, Last-Modified and length, if it does."""
        if self._response is None:
            self._retried(self._connect)
        assert self._response is not None, "an answer came, or _retried raised"
        said = {"etag": self._response.headers.get("ETag"), "modified": self._response.headers.get("Last-Modified")}
        length = {"bytes": str(self.length)} if self.length is not None else {}
        return {**{name: value for name, value in said.items() if value}, **length}

    def close(self) -> None:
        self._disconnect()
        super().close()

    def _retried(self, attempt: Callable[[], Answer]) -> Answer:
        for number in range(self.attempts):
            try:
                return attempt()
            # HTTPError is an OSError too, so it must be caught first.
            except urllib.error.HTTPError as error:
                error.close()
                if error.code not in RETRIED_STATUS:
                    raise self._refused(error) from None
                failure: Exception = error
            except (OSError, http.client.HTTPException) as error:
                failure = error
            self._disconnect()
            if number + 1 < self.attempts:
                time.sleep(self._wait_seconds(number, failure))
        raise EnvironmentFault(
            f"{self.shown}: {_reason(failure)} at byte {self.position:,}, {self.attempts} times in a row.",
            remedy="Check the network and run again, or use a local copy.",
        )

    def _read(self, size: int) -> bytes:
        if self.length is not None and self.position >= self.length:
            return b""
        response = self._response or self._connect()
        data = response.read(size)
        # http.client reports a connection that closes early as a normal end of the body when it is read in pieces.
        if not data and size and self.length is not None:
            raise ConnectionError(f"the connection ended {self.length - self.position:,} bytes early")
        return data

    def _connect(self) -> http.client.HTTPResponse:
        try:
            response: http.client.HTTPResponse = urllib.request.urlopen(self._request(), timeout=self.timeout_seconds)
        except (http.client.InvalidURL, ValueError):
            raise ConfigError(f"{self.shown} cannot be opened as an address.", remedy=WELL_FORMED) from None
        self._check_same_file(response)
        self._response = response
        self._skip(response)
        return response

    def _request(self) -> urllib.request.Request:
        # "identity": a server that compressed the body on the way would make byte positions meaningless.
        request = urllib.request.Request(
            _quoted(self._address), headers={"User-Agent": "folio", "Accept-Encoding": "identity"}
        )
        if self.position:
            request.add_header("Range", f"bytes={self.position}-")
        if self._authorization:
            # Not sent along to where the server redirects us, which may be somebody else's.
            request.add_unredirected_header("Authorization", self._authorization)
        return request

    def _check_same_file(self, response: http.client.HTTPResponse) -> None:
        """Note the file's ETag and length. Raises DataError if it is not the file that was begun."""
        etag = response.headers.get("ETag")
        if self._etag is not None and etag is not None and etag != self._etag:
            response.close()
            raise DataError(f"{self.shown} changed while it was read.", remedy="Run again.")
        self._etag = self._etag or etag
        announced = response.headers.get("Content-Length")
        if self.length is None and announced is not None:
            # The answer to a Range request announces the rest of the file only.
            self.length = int(announced) + (self.position if response.status == http.HTTPStatus.PARTIAL_CONTENT else 0)

    def _skip(self, response: http.client.HTTPResponse) -> None:
        """Read past what is known already, for a server that answers a Range request with the whole file."""
        left = self.position if response.status != http.HTTPStatus.PARTIAL_CONTENT else 0
        while left:
            data = response.read(min(left, SKIP_BYTES))
            if not data:
                raise ConnectionError("the connection ended early")
            left -= len(data)

    def _disconnect(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def _refused(self, error: urllib.error.HTTPError) -> ConfigError:
        who = "the token, or user and password, of " if error.code in UNAUTHORIZED else ""
        return ConfigError(
            f"{self.shown}: {_reason(error)}.",
            remedy=f"Check {who}the address in the config, or use a local copy.",
        )

    def _wait_seconds(self, number: int, failure: Exception) -> float:
        asked = failure.headers.get("Retry-After", "") if isinstance(failure, urllib.error.HTTPError) else ""
        # Retry-After may also be a date; our own backoff is good enough then.
        wait = float(asked) if asked.isdecimal() else self.backoff_seconds * 2**number
        return min(wait, LONGEST_WAIT_SECONDS)


def _reason(failure: Exception) -> str:
    """Why an attempt failed, in words that repeat nothing of what was asked for: servers and libraries may."""
    if isinstance(failure, urllib.error.HTTPError):
        known = failure.code in http.client.responses
        return f"the server answers {failure.code}{f' {http.client.responses[failure.code]}' if known else ''}"
    if isinstance(failure, urllib.error.URLError):
        return str(failure.reason)
    return str(failure) if isinstance(failure, OSError) and str(failure) else type(failure).__name__


def _basic(user: str) -> str:
    """The header of HTTP's basic authentication for "user:password" of an address; empty without."""
    return f"Basic {base64.b64encode(urllib.parse.unquote_to_bytes(user)).decode()}" if user else ""


def _quoted(address: str) -> str:
    """The address in characters that a request may hold: spaces and letters beyond ASCII are percent-encoded."""
    return urllib.parse.quote(address, safe=string.punctuation)
