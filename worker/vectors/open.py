"""Chooses the vector store that the settings ask for.

A store of another package is an entry point of the group `prelabel.vector_stores`, named as the scheme of the URL that
chooses it: a class or function that makes an `EmbeddingStore` of the settings. It is imported when it is chosen. Ours
come first.
"""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path
from typing import Final

from ...integrations.plugins import Plugins
from ...schemas.errors import ConfigError
from ...schemas.references import display_uri
from ...schemas.settings import Settings
from .store import EmbeddingStore, NoStore

GROUP: Final = "prelabel.vector_stores"


def open_store(settings: Settings) -> EmbeddingStore:
    """The store `PRELABEL_VECTOR_STORE` names. Open one per process, after any fork.

    A disk or server that does not work now is no error: it is a warning, and every vector a miss.

    Raises:
        ConfigError: the URL cannot be used, is that of the Redis which holds the jobs, or is of a scheme that no
            package or a broken one brings a store for.
    """
    choice = settings.vector_store.get_secret_value()
    if choice == "off":
        return NoStore()
    if choice == "disk":
        from .disk.store import DiskStore

        return DiskStore(vector_directory(settings), settings.vector_store_bytes)
    scheme = choice.partition(":")[0]
    if scheme not in ("redis", "rediss"):
        return _brought_store(scheme, settings)
    from .redis import RedisStore

    return RedisStore.from_settings(settings)


def _brought_store(scheme: str, settings: Settings) -> EmbeddingStore:
    plugins = Plugins(GROUP, "vector store")
    plugin = plugins.find(scheme)
    if plugin is None:
        brought = "".join(f", or a {name}: URL" for name in sorted(plugins.names))
        raise ConfigError(
            f"PRELABEL_VECTOR_STORE: no package that is installed here brings a store for {scheme}: URLs; use disk, "
            f"off, or the redis:// (rediss:// for TLS) URL of a Redis for vectors alone{brought}"
        )
    store = plugin.make(settings)
    if not isinstance(store, EmbeddingStore):
        raise plugin.broken(f"{plugin.entry.value} made {type(store).__name__}, which is no EmbeddingStore")
    return store


def store_name(settings: Settings) -> str:
    """What tells the store from others, on this machine and elsewhere; empty where there is none. Holds no secret."""
    choice = settings.vector_store.get_secret_value()
    if choice == "off":
        return ""
    where = f"{platform.node()} {vector_directory(settings).resolve()}" if choice == "disk" else display_uri(choice)
    return hashlib.blake2b(where.encode(errors="surrogatepass"), digest_size=4).hexdigest()


def vector_directory(settings: Settings) -> Path:
    """Where the disk store lies."""
    return settings.vector_store_dir or settings.state_dir / "vectors"
