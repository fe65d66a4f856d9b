"""What all tests share: their profile, and a web server that fails on request."""

from __future__ import annotations

import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest
from hypothesis import settings

# A busy machine can hold up any example; how long tests take is pytest-timeout's business.
settings.register_profile("folio", deadline=None)
settings.load_profile("folio")

Serving = Callable[[type[BaseHTTPRequestHandler]], AbstractContextManager[str]]


@pytest.fixture(scope="session")
def serving() -> Serving:
    """serving(Handler): a context in which a web server answers at the host and port that it gives."""

    @contextmanager
    def serve(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
        server.server_close()

    return serve


@dataclass
class Site:
    """Files that are served, and the faults of the next requests: a status code, "drop", "lie" or an address to go to.

    With `user` ("name:password") or `token` only who gives them is served: the token as a value of the query.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[int | str] = field(default_factory=list)
    ranges: bool = True
    requests: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    user: str = ""
    token: str = ""
    authorizations: list[str | None] = field(default_factory=list)  # of the requests so far


@pytest.fixture
def site(serving: Serving) -> Iterator[Site]:
    """A web server on 127.0.0.1."""
    served = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, served)

        def log_message(self, *_: object) -> None:
            """Keep stderr clean."""

    with serving(Handler) as host:
        served.address = f"http://{host}"
        yield served


def answer(handler: BaseHTTPRequestHandler, site: Site) -> None:
    wanted = handler.headers.get("Range", "")
    site.requests.append(wanted or "whole")
    site.authorizations.append(handler.headers["Authorization"])
    content = site.files.get(handler.path.partition("?")[0])
    fault = site.faults.pop(0) if site.faults else 404 if content is None else 200
    if site.user and handler.headers["Authorization"] != f"Basic {b64encode(site.user.encode()).decode()}":
        fault = 401
    if site.token and site.token not in parse_qs(handler.path.partition("?")[2]).get("token", []):
        fault = 403
    if isinstance(fault, int) and fault != 200:
        handler.send_error(fault, f"{handler.path} is not for you")  # as careless servers do
        return
    if "://" in str(fault):
        handler.send_response(302)
        handler.send_header("Location", str(fault))
        handler.end_headers()
        return
    assert content is not None, "a fault other than a status needs a file"
    start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and site.ranges else 0
    body = content[start:]
    handler.send_response(206 if start else 200)
    handler.send_header("Content-Length", str(len(body) + (100 if fault == "lie" else 0)))
    for name, value in site.headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2] if fault == "drop" else body)
    handler.close_connection = True
