"""The vector store several machines share: a Redis of its own.

Give it a server of its own with `maxmemory` set and `maxmemory-policy allkeys-lru`, without persistence: then the
server bounds it. Never the Redis of the jobs: that one must not forget anything (`noeviction`), and would be filled up
by vectors until it takes no jobs. Everything expires after 30 days anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import redis
import redis.backoff
import redis.connection
import redis.retry

from ...integrations.broker.connection import parse_url
from ...schemas.errors import ConfigError
from ...schemas.references import display_uri
from ...schemas.settings import Settings
from ..arrays import Vectors
from .records import Block, Records, block_of, floats, pack, places_of, record_dim, sound, stamp_checksum, vectors_of
from .store import FLUSH_S
from .writer import BackgroundWriter, Batch, Outage

_T = TypeVar("_T")

_TTL_S = 30 * 86_400
_CAPACITY = 16_384
_AT_ONCE = 256
"""Vectors a round trip: 400 kB of 768 components."""

_CONNECT_S = 1.0
_ANSWER_S = 2.0
_PAUSE_S = 5.0
"""Seconds a server that failed is left alone: scoring shall not wait for its time-outs."""

_CHECKSUM_BYTES = 4


class RedisStore:
    """An `EmbeddingStore` in Redis. A vector's value is its record; a stamp's is a checksum over both, then its key.

    Args:
        url: redis:// or rediss://.
        pause_s: seconds the server is left alone after a failure.

    Raises:
        ConfigError: the URL cannot be used. It is not shown.
    """

    def __init__(self, url: str, *, pause_s: float = _PAUSE_S) -> None:
        parse_url(url, "PRELABEL_VECTOR_STORE")
        try:
            self._redis = redis.Redis.from_url(
                url,
                socket_connect_timeout=_CONNECT_S,
                socket_timeout=_ANSWER_S,
                socket_keepalive=True,
                # Once more where a connection was cut; never where time ran out.
                retry=redis.retry.Retry(redis.backoff.NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
            )
            pool: Any = self._redis.connection_pool
            pool.connection_class(**pool.connection_kwargs)  # as the first command would; connects to nothing
        except (TypeError, ValueError, OSError, redis.RedisError):  # redis-py's text would show the URL
            raise ConfigError(
                "PRELABEL_VECTOR_STORE has a parameter that redis-py does not take, or names a file that is not there"
            ) from None
        self._outage = Outage(
            f"the vector store at {display_uri(url)} does not work: images are embedded anew, scoring goes on", pause_s
        )
        self._writer = BackgroundWriter(self._write, _CAPACITY)

    @classmethod
    def from_settings(cls, settings: Settings) -> RedisStore:
        """The store the settings name.

        Raises:
            ConfigError: the URL cannot be used, or is that of the Redis which holds the jobs.
        """
        url = settings.vector_store.get_secret_value()
        if _server(url) is not None and _server(url) == _server(settings.redis_url.get_secret_value()):
            raise ConfigError(
                "PRELABEL_VECTOR_STORE and PRELABEL_REDIS_URL are the same server: vectors would fill the Redis that "
                "holds the jobs; give them one of their own, with maxmemory and maxmemory-policy allkeys-lru"
            )
        return cls(url)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Vectors]:
        """Those that are stored and sound: float32 `(dim,)`."""
        vectors: dict[bytes, Vectors] = {}
        for some, records in self._records(list(dict.fromkeys(keys))):
            vectors.update(zip(some, floats(vectors_of(records)), strict=True))
        return vectors

    def blocks(self, keys: Sequence[bytes], rows: int = 2048) -> Iterator[Block]:
        """Stream stored vectors, as fast as the network."""
        for start in range(0, len(keys), rows):
            places = places_of(keys[start : start + rows], start)
            for some, records in self._records(list(places)):
                yield block_of(records, some, places)

    def lookup(self, stamps: Sequence[bytes]) -> dict[bytes, bytes]:
        """Stamp to vector key, of those that are known."""
        values = ((s, v[:_CHECKSUM_BYTES], v[_CHECKSUM_BYTES:]) for s, v in self._values("stamp", stamps))
        return {stamp: key for stamp, sum_, key in values if sum_ == _checksum(stamp, key)}

    def put(self, vectors: Mapping[bytes, Vectors]) -> None:
        """Store vectors `(dim,)` soon; what does not fit the queue is dropped.

        Raises:
            ValueError: a vector is not `(dim,)`, or a key not of 16 bytes.
        """
        if vectors and not self._outage.paused():
            self._writer.add(pack(vectors), {})

    def remember(self, stamps: Mapping[bytes, bytes]) -> None:
        """Store stamps soon."""
        if stamps and not self._outage.paused():
            self._writer.add({}, stamps)

    def flush(self, timeout_s: float = FLUSH_S) -> None:
        """Wait until what was put can be read, or was given up."""
        self._writer.flush(timeout_s)

    def close(self) -> None:
        """Write what waits; drop the connections."""
        self._writer.close(FLUSH_S)
        self._redis.close()

    def _records(self, keys: Sequence[bytes]) -> Iterator[tuple[list[bytes], Records]]:
        """The sound records of different keys, those of one length together, and whose they are."""
        by_length: dict[int, list[tuple[bytes, bytes]]] = {}
        for key, value in self._values("vec", keys):
            by_length.setdefault(len(value), []).append((key, value))
        for length, pairs in by_length.items():
            if not record_dim(length):
                continue
            some = [key for key, _ in pairs]
            records = np.frombuffer(b"".join(value for _, value in pairs), dtype=np.uint8).reshape(-1, length)
            good = sound(records, some)
            if good.any():
                yield [key for key, is_good in zip(some, good, strict=True) if is_good], records[good]

    def _values(self, kind: str, keys: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """What is stored under each key, sound or not."""
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            nothing: list[object] = []
            values = self._try(partial(self._fetch, [_name(kind, key) for key in some]), nothing)
            # MGET gives null for what is missing, and for what is not ours.
            yield from ((key, value) for key, value in zip(some, values, strict=False) if isinstance(value, bytes))

    def _fetch(self, names: Sequence[str]) -> list[object]:
        return list(self._redis.mget(names))

    def _write(self, batch: Batch) -> None:
        pairs = [(_name("vec", key), record) for key, record in batch.vectors.items()]
        pairs += [(_name("stamp", stamp), _checksum(stamp, key) + key) for stamp, key in batch.stamps.items()]
        for start in range(0, len(pairs), _AT_ONCE):
            self._try(partial(self._send, pairs[start : start + _AT_ONCE]), None)

    def _send(self, pairs: Sequence[tuple[str, bytes]]) -> None:
        with self._redis.pipeline(transaction=False) as pipe:
            for name, value in pairs:
                pipe.set(name, value, ex=_TTL_S)
            pipe.execute()

    def _try(self, call: Callable[[], _T], otherwise: _T) -> _T:
        if self._outage.paused():
            return otherwise
        try:
            answer = call()
        except (redis.RedisError, OSError) as error:
            self._outage.failed(error)
            return otherwise
        self._outage.passed()
        return answer


def _name(kind: str, key: bytes) -> str:
    return f"prelabel:{kind}:{key.hex()}"


def _checksum(stamp: bytes, key: bytes) -> bytes:
    return stamp_checksum(stamp, key).to_bytes(_CHECKSUM_BYTES, "big")


def _server(url: str) -> tuple[Any, ...] | None:
    """Host and port, or socket, of a redis URL."""
    try:
        parse: Any = redis.connection.parse_url  # not typed
        options = parse(url)
    except ValueError:
        return None
    return options.get("path"), options.get("host", "localhost"), options.get("port", 6379)
