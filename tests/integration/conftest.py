"""Pictures with known answers, in the folder the test worker may read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from prelabel.integrations import Client
from prelabel.worker.demo.story import Picture, draw_pictures
from prelabel.worker.running.stack import Stack
from tests.integration.redis_server import Server
from tests.integration.redis_tls import certificate


@pytest.fixture(scope="session")
def pictures(pictures_dir: Path) -> list[Picture]:
    """The demo's pictures: 140 single figures, 60 groups."""
    return draw_pictures(pictures_dir, seed=11)


@pytest.fixture(scope="session")
def photo(pictures_dir: Path) -> Path:
    """One good picture."""
    path = pictures_dir / "photo.jpg"
    Image.new("RGB", (64, 48), (200, 30, 40)).save(path)
    return path


@pytest.fixture
def live(stack: Stack) -> Client:
    """A client whose jobs a real worker process scores."""
    stack.check()
    return stack.client()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own."""
    made = Server(tmp_path / "server")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """A certificate for this machine, and its key."""
    return certificate(tmp_path / "ours.pem", "127.0.0.1", "localhost")
