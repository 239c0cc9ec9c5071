"""A Redis-compatible server of a test's own, which it may stop, fill and lock; and what those tests share."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from prelabel.schemas import Settings, Taxonomy
from prelabel.worker.running.broker import server_binary

TAXONOMY = Taxonomy.flat(["red", "blue"])
PASSWORD = "s3cret"


class Server:
    """A Redis-compatible server process; can be killed and started again with its data.

    `options` are the server's own, as on its command line.
    """

    def __init__(self, directory: Path, *options: str) -> None:
        directory.mkdir(exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._command = [
            server_binary(),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(directory)),
            *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
            *options,
        ]
        self._log = directory / "server.log"
        self._unix = redis.Redis(port=self.port)
        self.password: str | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as output:
            # Not `spawn`: its child ends with the thread that started it, here a timer's.
            self.process = subprocess.Popen(self._command, stdout=output, stderr=subprocess.STDOUT)
        wait_for(self._answers)

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def url(self, user: str = "", password: str | None = None) -> str:
        given = self.password if password is None else password
        return f"redis://{user}{':' + given if given else ''}{'@' if user or given else ''}127.0.0.1:{self.port}/0"

    @property
    def admin(self) -> redis.Redis:
        return redis.Redis.from_url(self.url(), protocol=2)  # without HELLO, which a test may take away

    def require(self, password: str) -> None:
        """Want a password from now on, from those that are connected too."""
        admin = self.admin
        admin.config_set("requirepass", password)
        self.password = password
        self.admin.client_kill_filter(_type="normal", skipme=True)

    def _answers(self) -> bool:
        try:
            return bool(self.admin.ping())
        except redis.RedisError:
            return False


def wait_for(condition: Callable[[], object], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


@contextmanager
def soon(action: Callable[[], object], after_s: float = 1.0) -> Iterator[None]:
    """Do something while the block runs."""
    timer = threading.Timer(after_s, action)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def references(count: int) -> list[str]:
    return [f"s3://b/{i}.jpg" for i in range(count)]


def cli(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "prelabel.worker.cli", *arguments],
        env={**os.environ, **settings.environment()},
        capture_output=True,
        text=True,
        timeout=60,
    )
