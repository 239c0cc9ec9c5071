"""Chooses the vector store that the settings ask for."""

from __future__ import annotations

from pathlib import Path

from ...schemas.settings import Settings
from .store import EmbeddingStore, NoStore


def open_store(settings: Settings) -> EmbeddingStore:
    """The store `PRELABEL_VECTOR_STORE` names. Open one per process, after any fork.

    A disk or server that does not work now is no error: it is a warning, and every vector a miss.

    Raises:
        ConfigError: the URL cannot be used, or is that of the Redis which holds the jobs.
    """
    choice = settings.vector_store.get_secret_value()
    if choice == "off":
        return NoStore()
    if choice == "disk":
        from .disk.store import DiskStore

        return DiskStore(vector_directory(settings), settings.vector_store_bytes)
    from .redis import RedisStore

    return RedisStore.from_settings(settings)


def vector_directory(settings: Settings) -> Path:
    """Where the disk store lies."""
    return (settings.vector_store_dir or settings.state_dir / "vectors").expanduser()
