"""Checkpoints of every family, each made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.checkpoints import BASES, MAKERS
from tests.openclip import make
from tests.unit.worker.model.samples import drawings

Made = Callable[[str], Path]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The folder of a checkpoint by its name in `MAKERS` or `BASES`; nobody changes what is in it."""
    folders: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in folders:
            folder = tmp_path_factory.mktemp(name.replace(" ", "-"))
            folders[name] = {**MAKERS, **BASES}[name](folder)
        return folders[name]

    return make


@pytest.fixture(scope="session")
def open_clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of checkpoints in OpenCLIP's format; nobody changes what is in them."""
    folder = tmp_path_factory.mktemp("open-clips")
    return {name: make(folder / name, name) for name in ("CLIP", "SigLIP", "BioCLIP, squashed", "EVA")}


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Drawings of odd sizes."""
    return drawings()
