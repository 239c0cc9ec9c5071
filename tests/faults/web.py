"""An image server that is up, overloaded, silent or playing tricks, by path."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        kind, _, name = self.path.strip("/").partition("/")
        web = self.server.web
        try:
            getattr(self, f"_{kind}")(web, name)
        except OSError:  # the client has had enough
            self.close_connection = True

    def _good(self, web: Web, name: str) -> None:
        self._send(200, web.files[name])

    def _flaky(self, web: Web, name: str) -> None:
        if web.refuses():
            self._send(503, b"")
        else:
            self._good(web, name)

    def _silent(self, web: Web, _: str) -> None:
        web.closing.wait()

    def _dripping(self, web: Web, name: str) -> None:
        self.send_response(200)
        self.end_headers()
        for byte in web.files[name]:
            self.wfile.write(bytes([byte]))
            if web.closing.wait(0.2):
                return

    def _round(self, _: Web, name: str) -> None:
        self._send(302, b"", location=f"/round/{name}x")

    def _inside(self, _: Web, __: str) -> None:
        self._send(302, b"", location="http://169.254.169.254/latest/meta-data/")

    def _to_file(self, _: Web, __: str) -> None:
        self._send(302, b"", location="file:///etc/passwd")

    def _endless(self, web: Web, _: str) -> None:
        self.send_response(200)
        self.end_headers()
        while not web.closing.is_set():
            self.wfile.write(bytes(65536))

    def _nothing(self, _: Web, __: str) -> None:
        self._send(404, b"")

    def _send(self, status: int, body: bytes, location: str | None = None) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        if location:
            self.send_header("location", location)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    web: Web


class Web:
    """The server; `url("flaky/a.jpg")` is that file, 30 % of the time.

    Attributes:
        host: `127.0.0.1:<port>`.
        files: what it serves, by name.
        refused: answers that were 503.
    """

    def __init__(self, rng: random.Random, refuse: float = 0.3) -> None:
        self.files: dict[str, bytes] = {}
        self.closing = threading.Event()
        self.refused = 0
        self._rng, self._refuse, self._lock = rng, refuse, threading.Lock()
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.web = self
        self.host = f"127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def serve(self, paths: Iterable[Path]) -> None:
        """Serve these files under their names."""
        self.files.update({path.name: path.read_bytes() for path in paths})

    def url(self, path: str) -> str:
        """The URL of a path."""
        return f"http://{self.host}/{path}"

    def refuses(self) -> bool:
        """Whether this request is one of those that are refused."""
        with self._lock:
            refused = self._rng.random() < self._refuse
            self.refused += refused
            return refused

    def close(self) -> None:
        """End it, and whoever waits in it."""
        self.closing.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
