"""A port somebody else has is refused in words, before anything is started."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from prelabel.schemas import ConfigError, get_settings
from prelabel.worker.cli import app
from prelabel.worker.machine import ports
from prelabel.worker.machine.ports import require_free_port


@pytest.fixture
def taken() -> Iterator[int]:
    """A port this process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_taken_port_is_named_with_who_has_it_and_how_to_take_another(taken: int) -> None:
    with pytest.raises(ConfigError) as refused:
        require_free_port("127.0.0.1", taken)
    assert str(refused.value).startswith(f"port {taken} is taken (by ")
    assert f", process {os.getpid()}): PRELABEL_PORT=" in str(refused.value)


def test_every_address_of_a_machine_includes_the_one_that_is_taken(taken: int) -> None:
    with pytest.raises(ConfigError, match=f"port {taken} is taken"):
        require_free_port("0.0.0.0", taken)


def test_who_has_it_may_be_another_user_s_secret(taken: int, monkeypatch) -> None:
    def denied(**_: object) -> None:
        raise ports.psutil.AccessDenied

    monkeypatch.setattr(ports.psutil, "net_connections", denied)
    with pytest.raises(ConfigError, match=f"port {taken} is taken: PRELABEL_PORT="):
        require_free_port("127.0.0.1", taken)


def test_a_free_port_is_free_afterwards_too(taken: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    require_free_port("127.0.0.1", port)
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_any_port_is_always_free(taken: int) -> None:
    require_free_port("127.0.0.1", 0)
    with pytest.raises(ConfigError):
        require_free_port("127.0.0.1", taken)


@pytest.mark.parametrize(
    ("host", "says"), [("192.0.2.1", "is no address of this machine"), ("no host at all", "is no address")]
)
def test_an_address_of_another_machine_is_not_called_a_taken_port(host: str, says: str) -> None:
    with pytest.raises(ConfigError, match=f"PRELABEL_HOST={host} {says}"):
        require_free_port(host, 0)


@pytest.mark.parametrize("command", ["up", "serve"])
def test_commands_say_so_before_anything_starts(command: str, taken: int, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PRELABEL_STATE_DIR", str(tmp_path / "state"))
    get_settings.cache_clear()
    done = CliRunner().invoke(app, [command, "--port", str(taken)])
    get_settings.cache_clear()
    assert done.exit_code == 2
    assert f"port {taken} is taken (by " in done.output.replace("\n", " ")
    assert not (tmp_path / "state").exists()
