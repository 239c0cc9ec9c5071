"""Pictures with known answers, in the folder the test worker may read."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from prelabel.integrations import Client
from prelabel.worker.demo.story import Picture, draw_pictures
from prelabel.worker.stack import Stack


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
