"""A reverse proxy that shows a Label Studio below a path, as companies put it beside their other services."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import httpx

PREFIX = "/label-studio"
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-encoding", "content-length"}


class Passed(NamedTuple):
    """A request that went through."""

    method: str
    path: str
    authorization: str
    status: int


class Proxy:
    """The proxy.

    Attributes:
        url: Label Studio as it is seen through it.
        passed: what went through.
        ended: access tokens that it says have ended.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.url = ""
        self.passed: list[Passed] = []
        self.ended: set[str] = set()
        self.http = httpx.Client(base_url=target, timeout=120, trust_env=False)


@contextmanager
def below_a_path(target: str) -> Iterator[Proxy]:
    """Run a proxy for the Label Studio at `target`."""
    proxy = Proxy(target)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            authorization = self.headers.get("authorization", "")
            if not self.path.startswith(PREFIX + "/"):
                status, headers, content = 404, {}, b"not here"
            elif authorization in proxy.ended:
                status, headers, content = 401, {}, b'{"detail": "token has expired"}'
            else:
                sent = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                reply = proxy.http.request(self.command, self.path[len(PREFIX) :], content=body, headers=sent)
                status, content = reply.status_code, reply.content
                headers = {name: value for name, value in reply.headers.items() if name.lower() not in _HOP_BY_HOP}
            proxy.passed.append(Passed(self.command, self.path, authorization, status))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = pass_on  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_port}{PREFIX}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        proxy.http.close()
