"""Stored vectors: an image or a text is embedded once and then read back.

What a vector was made from is its key, so a store has nothing to invalidate: another model, revision, preprocessing,
content or region is another key. A store may forget anything at any time; it never gives a wrong vector.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from ..schemas.items import Region
from ..schemas.settings import Settings
from .embeddings_records import Block
from .scorer import Vectors

VectorKey = bytes
"""16 bytes: BLAKE2b of everything a vector depends on."""

FLUSH_S = 10.0

_SPACE_VERSION = 1
"""Bumped when prelabel itself makes other pixels or vectors of the same bytes."""


class EmbeddingStore(Protocol):
    """A cache of embeddings. Nothing it does ever fails a caller; what it cannot do now is a miss. Thread-safe."""

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Vectors]:
        """Those that are stored and sound: float32 `(dim,)`, un-normalised, fp16-precise."""
        ...

    def put(self, vectors: Mapping[bytes, Vectors]) -> None:
        """Store `(dim,)` vectors soon. Does not wait for disk or network.

        A vector that fp16 cannot hold (NaN, infinite, beyond 65504, or nearly nothing) is not stored.

        Raises:
            ValueError: a vector is not `(dim,)`, or a key not of 16 bytes.
        """
        ...

    def lookup(self, stamps: Sequence[bytes]) -> dict[bytes, bytes]:
        """Stamp to vector key: "this object with this ETag and size had that content"."""
        ...

    def remember(self, stamps: Mapping[bytes, bytes]) -> None:
        """Store stamps soon; call it after the vectors' `put`: a stamp may be dropped when its vector is not there."""
        ...

    def blocks(self, keys: Sequence[bytes], rows: int = 2048) -> Iterator[Block]:
        """Stream the sound ones of any number of keys in matrices of at most `rows`, in the store's order.

        Fastest when the keys stand in the order they were put. A key that is given twice comes twice.
        """
        ...

    def flush(self, timeout_s: float = FLUSH_S) -> None:
        """Wait until what was put can be read, or was given up, or the time is over."""
        ...

    def close(self) -> None:
        """Write what waits and let go of everything."""
        ...


class NoStore:
    """The store that holds nothing."""

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Vectors]:  # noqa: ARG002
        """Nothing."""
        return {}

    def put(self, vectors: Mapping[bytes, Vectors]) -> None:
        """Drop them."""

    def lookup(self, stamps: Sequence[bytes]) -> dict[bytes, bytes]:  # noqa: ARG002
        """Nothing."""
        return {}

    def remember(self, stamps: Mapping[bytes, bytes]) -> None:
        """Drop them."""

    def blocks(self, keys: Sequence[bytes], rows: int = 2048) -> Iterator[Block]:  # noqa: ARG002
        """Nothing."""
        return iter(())

    def flush(self, timeout_s: float = FLUSH_S) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing is open."""


def vector_space(model_id: str, dim: int, preprocessing: str) -> str:
    """A name for all vectors that may be compared with each other: other arguments, another name.

    Args:
        model_id: `<model>@<revision8>`.
        dim: length of its embeddings.
        preprocessing: everything else that changes a vector of the same image, like "fast" or "exact".
    """
    return json.dumps([_SPACE_VERSION, model_id, dim, preprocessing])


def content_key(space: str, content: bytes, region: Region | None) -> VectorKey:
    """The key of an image file's vector, or of a region's crop of it.

    Args:
        space: from `vector_space`.
        content: the file's bytes, undecoded.
        region: the crop; None is the whole image.
    """
    # Of a megabyte: SHA-256 has instructions of its own in today's processors, BLAKE2b takes twice as long.
    return _key(b"prelabel.image", space, hashlib.sha256(content).digest(), _canonical(region))


def stamp_key(space: str, uri: str, validator: str, region: Region | None) -> bytes:
    """The key of "this object had that content".

    Args:
        space: from `vector_space`.
        uri: the reference; only its hash is kept.
        validator: changes whenever the object does: an ETag and size, or size, time of change and inode.
        region: as for `content_key`.
    """
    return _key(b"prelabel.stamp", space, uri, validator, _canonical(region))


def text_key(space: str, prompt: str) -> VectorKey:
    """The key of a prompt's vector."""
    return _key(b"prelabel.text", space, prompt)


def _canonical(region: Region | None) -> str:
    return region.model_dump_json() if region else ""


def _key(person: bytes, *parts: str | bytes) -> bytes:
    """BLAKE2b-128 of the parts, each behind its length: no two lists of parts are the same bytes."""
    made = hashlib.blake2b(digest_size=16, person=person)
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode(errors="surrogatepass")
        made.update(len(data).to_bytes(8, "little"))
        made.update(data)
    return made.digest()


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
        from .embeddings_disk import DiskStore

        return DiskStore(vector_directory(settings), settings.vector_store_bytes)
    from .embeddings_redis import RedisStore

    return RedisStore.from_settings(settings)


def vector_directory(settings: Settings) -> Path:
    """Where the disk store lies."""
    return (settings.vector_store_dir or settings.state_dir / "vectors").expanduser()
