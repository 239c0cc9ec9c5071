"""Disk: room for what prelabel writes, and leave to write it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ....schemas.settings import Settings
from . import Check, Checks

_LOW_BYTES = 2 * 2**30
_FULL_BYTES = 100 * 2**20


def check_disk(settings: Settings) -> Checks:
    """The state folder, and the vector store's."""
    yield _place("disk", settings.state_dir, wanted=0)
    if settings.vector_store.get_secret_value() != "disk":
        return
    folder = settings.vector_store_dir or settings.state_dir / "vectors"
    used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    yield _place("vectors", folder, wanted=max(0, settings.vector_store_bytes - used))


def _place(name: str, folder: Path, *, wanted: int) -> Check:
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    detail = f"{free / 2**30:.1f} GiB free at {folder}"
    if not os.access(place, os.W_OK | os.X_OK):
        return Check(name, "fail", f"{folder} cannot be written", f"give this user {place}, or set PRELABEL_STATE_DIR")
    if free < _FULL_BYTES:
        return Check(name, "fail", detail, "free some")
    if free < wanted:
        return Check(
            name, "warn", f"{detail}, and the vector store may still take {wanted / 2**30:.1f} GiB",
            "a smaller PRELABEL_VECTOR_STORE_BYTES, or another PRELABEL_VECTOR_STORE_DIR",
        )  # fmt: skip
    return Check(name, "warn", detail, "free some") if free < _LOW_BYTES else Check(name, "ok", detail)
