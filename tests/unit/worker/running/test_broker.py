"""The embedded broker: one server a folder, and the folder is free again when it has ended."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from prelabel.schemas import ConfigError
from prelabel.worker.running.broker import embedded_broker


def test_a_folder_has_one_server_at_a_time_and_keeps_its_data(tmp_path: Path) -> None:
    with embedded_broker(tmp_path, port=0) as url, redis.Redis.from_url(url) as client:
        client.set("job", "1")
        with pytest.raises(ConfigError, match="an embedded broker already runs in"), embedded_broker(tmp_path, port=0):
            pass
        assert client.ping()
    with embedded_broker(tmp_path, port=0) as url, redis.Redis.from_url(url) as client:
        assert client.get("job") == b"1"


def test_its_port_is_the_same_after_a_restart(tmp_path: Path) -> None:
    with embedded_broker(tmp_path / "other", port=0) as other:
        taken = int(other.rpartition(":")[2].partition("/")[0])
        with embedded_broker(tmp_path / "mine", port=taken) as first:
            assert first != other
        for _ in range(2):
            with embedded_broker(tmp_path / "mine", port=taken) as again:
                assert again == first
    with embedded_broker(tmp_path / "mine", port=taken) as again:
        assert again == first, "though the port it wanted first is free now"


@pytest.mark.parametrize("left", [b"", b"many", b"-1", b"99999", b"\xff", b"0"])
def test_what_is_no_port_is_not_remembered(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "port").write_bytes(left)
    with embedded_broker(tmp_path, port=0) as url, redis.Redis.from_url(url) as client:
        assert client.ping()
