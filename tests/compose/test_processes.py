"""The commands, settings and health checks of the compose file, run as ordinary processes of this machine."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from prelabel.worker.demo.story import CHECKPOINT
from prelabel.worker.machine.children import spawn, stop
from prelabel.worker.running.broker import server_binary
from tests.compose.test_meaning import DOCKERFILE, SERVICES, environment, example
from tests.conftest import eventually

pytestmark = pytest.mark.slow

PASSWORD = "opensesame"


class Here:
    """Where the containers' addresses and folders are on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {port: _free_port() for port in ("6379", "9090", "9091", "9191")}
        self._variables = {**example(), "REDIS_PASSWORD": PASSWORD, "PRELABEL_MODEL": str(CHECKPOINT)}
        shim = folder / "bin" / "redis-server"  # the official image's name for the server
        shim.parent.mkdir()
        shim.symlink_to(server_binary())

    def says(self, text: Any, *, worker: bool = False) -> str:
        """A value of the compose file as a container would see it, with this machine's ports and folders."""
        text = re.sub(r"(?<!\$)\$\{([A-Z0-9_]+)[^}]*\}", lambda match: self._variables[match[1]], str(text))
        text = text.replace("$$", "$").replace("@redis:6379", f"@127.0.0.1:{self.ports['6379']}")
        # On one machine the worker's metrics need another port than the adapter's.
        text = re.sub(r"\b9091\b", self.ports["9191" if worker else "9091"], text)
        text = re.sub(r"\b9090\b", self.ports["9090"], text)
        return text.replace("0.0.0.0", "127.0.0.1")

    def variables(self, name: str) -> dict[str, str]:
        """A container's environment."""
        worker = name == "worker"
        own = {key: self.says(value, worker=worker) for key, value in environment(SERVICES[name]).items()}
        return {
            **own,
            "PATH": f"{self.folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PRELABEL_PORT": self.ports["9090"],
            "PRELABEL_STATE_DIR": str(self.folder / "state"),
            "HF_HOME": str(self.folder / "models"),
        }


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    """Redis, adapter and worker, started as the compose file and the Dockerfile say."""
    made = Here(tmp_path_factory.mktemp("compose"))
    (made.folder / "data").mkdir()
    shell, flag, script = SERVICES["redis"]["command"]
    script = script.replace("/data", str(made.folder / "data")) + f" --port {made.ports['6379']}"
    commands = {
        "redis": [shell, flag, made.says(script)],
        "adapter": shlex.split(_command("adapter")),
        "worker": shlex.split(_command("worker")),
    }
    with ExitStack() as left:
        for name, command in commands.items():
            output = left.enter_context((made.folder / f"{name}.log").open("wb"))
            child = spawn(command, env=made.variables(name), output=output)
            left.callback(stop, child, 40)
        yield made


def _command(target: str) -> str:
    """CMD of a stage of the Dockerfile, with this environment's own `prelabel`."""
    stage = DOCKERFILE[DOCKERFILE.index(f"FROM runtime AS {target}") :]
    program, *arguments = re.search(r"CMD \[(.+)\]", stage)[1].replace('"', "").split(", ")
    return shlex.join([str(Path(sys.executable).parent / program), *arguments])


@pytest.mark.parametrize("name", ["adapter", "worker"])
def test_health_checks_pass_when_the_commands_run(here: Here, name: str) -> None:
    kind, program, *arguments = SERVICES[name]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "python")
    check = [sys.executable, *(here.says(argument, worker=name == "worker") for argument in arguments)]

    def healthy() -> bool:
        return subprocess.run(check, capture_output=True).returncode == 0

    assert eventually(healthy, timeout_s=90), (here.folder / f"{name}.log").read_text()


def test_redis_wants_its_password_keeps_everything_and_evicts_nothing(here: Here) -> None:
    url = f"redis://127.0.0.1:{here.ports['6379']}"
    with redis.Redis.from_url(url) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    with redis.Redis.from_url(url, password=PASSWORD) as client:
        info = client.info()
        assert (info["aof_enabled"], info["maxmemory_policy"], info["maxmemory"]) == (1, "noeviction", 2 * 2**30)
    assert (here.folder / "data" / "appendonlydir").is_dir()


def test_the_redis_health_check_asks_with_the_password() -> None:
    assert SERVICES["redis"]["healthcheck"]["test"] == ["CMD-SHELL", "redis-cli ping | grep -q PONG"]
    assert "REDISCLI_AUTH" in environment(SERVICES["redis"])  # redis-cli reads it


def test_the_command_line_in_the_adapters_environment_finds_everything(here: Here) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "prelabel.worker.cli", "doctor", "--json"],
        env={**os.environ, **here.variables("adapter")},
        capture_output=True,
        text=True,
    )
    assert '"redis"' in done.stdout
    assert '"fail"' not in done.stdout, done.stdout
