"""A hub on this machine with one repository, `me/mine`, whose files are those of a folder."""

from __future__ import annotations

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "0123456789" * 4


class Hub(ThreadingHTTPServer):
    """Answers the hub's client; `asked` are the paths it was asked for. To be entered."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Files)
        self.folder = folder
        self.asked: list[str] = []
        self._thread = Thread(target=self.serve_forever)

    @property
    def environment(self) -> dict[str, str]:
        """Variables that lead the hub's client here; it reads them when it is imported."""
        endpoint = f"http://127.0.0.1:{self.server_port}"
        return {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}

    def __enter__(self) -> Hub:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Files(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        self.server.asked.append(self.path)
        body = self._body()
        self.send_response(404 if body is None else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        if body is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        else:
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        if with_body and body:
            self.wfile.write(body)

    def _body(self) -> bytes | None:
        if "/tree/" in self.path:
            return None
        if self.path.startswith("/api/models/me/mine"):
            return json.dumps({"sha": COMMIT, "id": "me/mine"}).encode()
        file = self.server.folder / self.path.rpartition("/")[2]
        return file.read_bytes() if self.path.startswith("/me/mine/resolve/") and file.is_file() else None

    def log_message(self, *_args: object) -> None:
        pass
