"""A Redis-compatible server with an append-only file that can be killed, frozen and filled up."""

from __future__ import annotations

import resource
import signal
import socket
import time
from pathlib import Path

import redis

from prelabel.worker.machine.children import kill, spawn, stop
from prelabel.worker.running.broker import server_binary


class RedisServer:
    """The server process; the data in `directory` outlives it.

    Attributes:
        port: where it listens, always the same.
    """

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._directory = directory
        self._command = [
            # A write beyond the size limit is to fail, as on a full disk; its signal would end the process.
            *("sh", "-c", 'trap "" XFSZ; exec "$@"', "sh", server_binary()),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(directory)),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction"),
        ]
        self._log = (directory / "server.log").open("ab")
        self.start()

    def url(self, database: int = 0, port: int | None = None) -> str:
        """The server's URL, through another port where one is given."""
        return f"redis://127.0.0.1:{port or self.port}/{database}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = spawn(self._command, output=self._log)
        deadline = time.monotonic() + 20
        with redis.Redis(port=self.port, socket_timeout=1) as probe:
            while True:
                try:
                    probe.ping()
                    return
                except redis.RedisError:
                    assert time.monotonic() < deadline, "the server does not start"
                    assert self._process.poll() is None, "the server has ended"
                    time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL."""
        kill(self._process)
        self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP: connections stay, nothing answers."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def fill_disk(self) -> None:
        """Let no file grow any more."""
        files = [path for path in self._directory.rglob("*.aof") if path.is_file()]
        self._limit_files(max(path.stat().st_size for path in files))

    def empty_disk(self) -> None:
        """Let files grow again."""
        self._limit_files(resource.RLIM_INFINITY)

    def _limit_files(self, size: int) -> None:
        hard = resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (size, hard))

    def close(self) -> None:
        """End it for good."""
        self.thaw()
        stop(self._process, 5)
        self._log.close()


def free_port() -> int:
    """A TCP port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
