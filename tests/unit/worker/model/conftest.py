"""Checkpoints of every family, each made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.checkpoints import BASES, MAKERS

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
