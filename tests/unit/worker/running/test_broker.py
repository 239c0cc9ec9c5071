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
