"""Commands find the Redis of the `prelabel up` that runs with their state folder, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from prelabel.worker.running.announced import announced, find_announced
from prelabel.worker.running.broker import embedded_broker


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def test_it_is_found_while_it_runs_and_not_afterwards(state: Path, broker_url: str) -> None:
    assert find_announced(state) is None
    with announced(state, port_of(broker_url), "prelabel up"):
        found = find_announced(state)
        assert found is not None
        assert (found.url, found.by) == (broker_url, "prelabel up")
    assert find_announced(state) is None
    assert list((state / "running").iterdir()) == []


def test_another_state_folder_finds_nothing(state: Path, tmp_path: Path, broker_url: str) -> None:
    with announced(state, port_of(broker_url), "prelabel up"):
        assert find_announced(tmp_path / "another") is None


def test_another_redis_on_the_port_of_one_that_crashed_is_not_taken_for_it(state: Path, tmp_path: Path) -> None:
    with embedded_broker(tmp_path / "a", port=0) as first, announced(state, port_of(first), "prelabel up"):
        (file,) = (state / "running").iterdir()
        left = file.read_bytes()
    file.write_bytes(left)  # as a crash leaves it
    assert find_announced(state) is None, "nobody is there"
    with embedded_broker(tmp_path / "b", port=port_of(first)) as second:
        assert second == first
        assert find_announced(state) is None
        with announced(state, port_of(second), "prelabel up"):
            assert not file.exists(), "what was left behind is cleared away"


def test_up_is_found_before_a_demo_that_began_later(state: Path, tmp_path: Path, broker_url: str) -> None:
    with (
        embedded_broker(tmp_path / "demo", port=0) as demo,
        announced(state, port_of(broker_url), "prelabel up"),
        announced(state, port_of(demo), "prelabel demo"),
    ):
        found = find_announced(state)
        assert found is not None
        assert found.url == broker_url
    with embedded_broker(tmp_path / "demo", port=0) as demo, announced(state, port_of(demo), "prelabel demo"):
        found = find_announced(state)
        assert found is not None
        assert (found.url, found.by) == (demo, "prelabel demo")


@pytest.mark.parametrize("content", ["", "[]", '{"by": "prelabel up", "port": 99999, "run_id": "x"}', "\0"])
def test_a_file_that_says_nothing_is_passed_over(state: Path, broker_url: str, content: str) -> None:
    with announced(state, port_of(broker_url), "prelabel up"):
        (state / "running" / "x.json").write_text(content)
        found = find_announced(state)
        assert found is not None
        assert found.url == broker_url


def test_where_nothing_can_be_written_it_runs_all_the_same(tmp_path: Path, broker_url: str) -> None:
    (tmp_path / "file").touch()
    with announced(tmp_path / "file", port_of(broker_url), "prelabel up"):
        assert find_announced(tmp_path / "file") is None
