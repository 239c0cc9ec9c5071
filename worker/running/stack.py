"""Everything on this machine: broker, supervised worker and adapter as child processes of one command."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import httpx

from ...integrations.broker.errors import shown_url
from ...integrations.client.checkpoint import settings_model_id
from ...integrations.client.client import Client
from ...schemas.errors import ConfigError, ScorerError
from ...schemas.progress import WorkerInfo
from ...schemas.settings import Settings, load_settings
from ..machine.children import EXIT_CONFIG, spawn, stop
from ..machine.files import make_state_folder
from ..machine.ports import require_free_port
from .broker import DEFAULT_PORT, embedded_broker
from .gone import free_gone_holders

_STOP_MARGIN_S = 10.0


@dataclass
class Stack:
    """What runs.

    Attributes:
        redis_url: the broker.
        embedded: whether the broker is ours.
        adapter_url: the ML backend; None when it was not asked for.
        logs: folder with one log per child.
        settings: settings that point at this stack.
    """

    redis_url: str
    embedded: bool
    adapter_url: str | None
    logs: Path
    settings: Settings
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def settings_shown_url(self) -> str:
        """The broker's URL without its password."""
        return shown_url(self.settings)

    @property
    def redis_port(self) -> int:
        """The port that the broker listens on."""
        return urlsplit(self.redis_url).port or DEFAULT_PORT

    def client(self) -> Client:
        """A client of this stack's broker; close it after use."""
        return Client(self.settings)

    def workers(self) -> list[WorkerInfo]:
        """Live workers with this stack's model; a shared Redis may have others."""
        model = settings_model_id(self.settings)
        with self.client() as client:
            return [worker for worker in client.workers() if worker.model == model]

    def check(self) -> None:
        """Look whether every child still runs.

        Raises:
            ConfigError: the worker cannot start as it is set up; the message is its own.
            ScorerError: a child has died; the message holds the end of its log.
        """
        for name, child in self.children.items():
            status = child.poll()
            if status is None:
                continue
            last = _last_line(self.logs / f"{name}.log", critical=status == EXIT_CONFIG)
            if status == EXIT_CONFIG:
                raise ConfigError(last)
            raise ScorerError(f"the {name} ended ({status}): {last} (log: {self.logs / name}.log)")

    def wait_until_ready(self, tell: Callable[[str], None] = lambda _: None, timeout_s: float = 900.0) -> None:
        """Block until the adapter answers and a worker has loaded the model (a first download can take minutes).

        Raises:
            PrelabelError: see `check`, or nothing within `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self.check()
            if self.adapter_url and not _answers(self.adapter_url):
                tell("waiting for the adapter")
            elif not self.workers():
                tell(f"loading {self.settings.model}")
            else:
                return
            time.sleep(0.1)
        raise ScorerError(f"no worker was ready within {timeout_s:.0f} s (logs: {self.logs})")


@contextlib.contextmanager
def local_stack(
    settings: Settings, directory: Path, *, adapter: bool, embedded: bool, broker_port: int = DEFAULT_PORT
) -> Iterator[Stack]:
    """Run broker, worker and adapter while the block runs; leave nothing behind.

    Args:
        settings: passed on to the children.
        directory: where broker data and logs go; created.
        adapter: whether to run the ML backend too.
        embedded: run our own broker instead of `settings.redis_url`.
        broker_port: where the embedded broker listens; see `embedded_broker`.

    Raises:
        PrelabelError: something cannot start.
    """
    if adapter:
        require_free_port(settings.host, settings.port)
    logs = directory / "logs"
    make_state_folder(logs)
    with contextlib.ExitStack() as stack:
        url = settings.redis_url.get_secret_value()
        if embedded:
            url = stack.enter_context(embedded_broker(directory / "broker", port=broker_port))
        else:
            with Client(settings) as client:
                client.ping()
        adapter_port = settings.port or free_port()
        pointed = load_settings(**{**settings.model_dump(), "redis_url": url, "port": adapter_port})
        running = Stack(
            redis_url=url,
            embedded=embedded,
            adapter_url=f"http://{settings.host}:{adapter_port}" if adapter else None,
            logs=logs,
            settings=pointed,
        )
        if embedded:
            free_gone_holders(pointed)
        env = pointed.environment()
        names = ("worker", "adapter") if adapter else ("worker",)
        for name in names:
            output: IO[bytes] = stack.enter_context((logs / f"{name}.log").open("ab"))
            child = spawn(_command("serve" if name == "adapter" else "worker"), env=env, output=output)
            running.children[name] = child
            stack.callback(stop, child, settings.grace_s + _STOP_MARGIN_S)
        yield running


def _command(name: str) -> list[str]:
    return [sys.executable, "-m", "prelabel.worker.cli", name]


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=1, trust_env=False).status_code < 500
    except httpx.HTTPError:
        return False


def free_port() -> int:
    """A TCP port of 127.0.0.1 nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _last_line(path: Path, *, critical: bool) -> str:
    try:
        lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    if lines and lines[-1].startswith("{"):  # PRELABEL_LOG_FORMAT=json
        events = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        chosen = [event for event in events if critical and event["level"] == "CRITICAL"] or events
        return str(chosen[-1]["message"])
    marked = [line for line in lines if critical and " CRITICAL " in line]
    if marked:
        return marked[-1].partition(" CRITICAL ")[2].partition(": ")[2]
    return lines[-1] if lines else "it said nothing"
