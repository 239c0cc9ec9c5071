"""A Redis that can never serve prelabel: everybody is told in one line, and no worker waits for it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prelabel.integrations import Client
from prelabel.schemas import ConfigError, Settings
from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.story import CHECKPOINT
from prelabel.worker.machine.children import EXIT_CONFIG
from prelabel.worker.running.stack import free_port
from tests.integration.redis_server import TAXONOMY, Server, cli, references, wait_for

SLOTS = 16384

Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts servers, each with options of its own."""
    servers: list[Server] = []

    def make(*options: str, nodes: str | None = None) -> Server:
        directory = tmp_path / f"server{len(servers)}"
        server = Server(directory, *options)
        if nodes is not None:
            (directory / "nodes.conf").write_text(nodes)
        servers.append(server)
        server.start()
        return server

    yield make
    for server in servers:
        server.stop()


def no_such_database(start: Start) -> str:
    return start().url().removesuffix("0") + "99"


def no_hello(start: Start) -> str:
    return start("--rename-command", "HELLO", "NOHELLO").url()


def clustered() -> tuple[str, ...]:
    return ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))


def half_of_a_cluster(start: Start) -> str:
    """Every other key has moved, to a server that is away."""
    server = start(*clustered(), "--cluster-node-timeout", "60000", nodes=_TWO_NODES)
    wait_for(lambda: b"cluster_state:ok" in server.admin.execute_command("CLUSTER", "INFO"))
    return server.url()


_TWO_NODES = f"""\
{"a" * 40} 127.0.0.1:1@2 myself,master - 0 0 1 connected 0-{SLOTS // 2 - 1}
{"b" * 40} 127.0.0.1:3@4 master - 0 0 2 connected {SLOTS // 2}-{SLOTS - 1}
vars currentEpoch 2 lastVoteEpoch 0
"""
"""A node's own file of what it knows of its cluster."""


def cluster_of_one(start: Start) -> str:
    """No key has moved, and no two may be changed together."""
    server = start(*clustered())
    server.admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
    return server.url()


def cluster_without_slots(start: Start) -> str:
    return start(*clustered()).url()


UNFIT = {
    no_such_database: "has no database of that number",
    no_hello: "does not know HELLO",
    half_of_a_cluster: "is a Redis Cluster",
    cluster_of_one: "is a Redis Cluster",
    cluster_without_slots: "is a Redis Cluster",
}

unfit = pytest.mark.parametrize(("unfit", "says"), UNFIT.items(), ids=lambda given: getattr(given, "__name__", ""))


def settings_of(url: str, tmp_path: Path) -> Settings:
    return load_settings(redis_url=url, broker_wait_s=3600, model=str(CHECKPOINT), state_dir=tmp_path / "state")


@unfit
def test_a_producer_is_told_in_one_line_and_does_not_wait(start: Start, tmp_path: Path, unfit, says: str) -> None:
    settings = settings_of(unfit(start), tmp_path)
    with Client(settings) as client, pytest.raises(ConfigError) as told:
        client.submit(references(1), TAXONOMY)
    assert says in str(told.value)
    assert "\n" not in str(told.value)
    done = cli(settings, "submit", "s3://b/1.jpg", "--labels", "a,b")
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@unfit
def test_doctor_says_what_is_wrong_with_it_and_what_to_do(start: Start, tmp_path: Path, unfit, says: str) -> None:
    done = cli(settings_of(unfit(start), tmp_path), "doctor", "--json")
    assert done.returncode == 1, done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert checks["redis"]["status"] == "fail"
    assert says in checks["redis"]["detail"]
    assert "workers" not in checks  # they could say nothing


@pytest.mark.slow
@unfit
def test_a_worker_ends_instead_of_trying_for_ever(start: Start, tmp_path: Path, unfit, says: str) -> None:
    done = cli(settings_of(unfit(start), tmp_path), "worker")
    assert done.returncode == EXIT_CONFIG
    assert says in done.stderr
    assert done.stderr.count("CRITICAL") == 1
    assert "Traceback" not in done.stderr


def test_what_is_no_redis_at_all_is_called_that(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as web:

        def answer() -> None:
            connection, _ = web.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        settings = load_settings(redis_url=f"redis://127.0.0.1:{web.getsockname()[1]}/0", state_dir=tmp_path)
        with Client(settings) as client, pytest.raises(ConfigError, match="is no Redis"):
            client.ping()
        thread.join()
