"""What every vector store shares: rows of fp16 with a checksum, a background writer, and how trouble is told."""

from __future__ import annotations

import logging
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .scorer import Vectors

log = logging.getLogger(__name__)

Halves = NDArray[np.float16]
"""Stored embeddings, un-normalised, little-endian: `(n, dim)`."""

_LARGEST = 65504.0
"""fp16's largest number."""

_SMALLEST = 2.0**-10
"""A vector whose largest component is smaller has lost its direction in fp16's steps of 2 ** -24."""

_WARN_EVERY_S = 60.0


class Block(NamedTuple):
    """Some of the stored vectors that were asked for.

    Attributes:
        positions: `(n,)`, which of the keys asked for these are.
        vectors: `(n, dim)` float16, un-normalised; the caller's own copy.
    """

    positions: NDArray[np.intp]
    vectors: Halves


def checksum(key: bytes, row: bytes | memoryview) -> int:
    """CRC-32 of a row and of whose it is: a sound row under another key is as wrong as a damaged one."""
    return zlib.crc32(row, zlib.crc32(key))


def sound(keys: Sequence[bytes], rows: Halves, checksums: Sequence[int]) -> NDArray[np.bool_]:
    """`(n,)`: which of `rows` `(n, dim)` are what was once put under their key."""
    size = rows.shape[1] * rows.itemsize
    whole: list[bytes] = np.ascontiguousarray(rows).view(f"V{size}").reshape(-1).tolist()
    # `checksum` for each, without a call of our own for each: that took as long as the checksums.
    found = np.fromiter(map(zlib.crc32, whole, map(zlib.crc32, keys)), dtype=np.int64, count=len(whole))
    good: NDArray[np.bool_] = found == np.asarray(checksums, dtype=np.int64)
    return good


def floats(halves: Halves) -> Vectors:
    """`(n, dim)` finite fp16 as float32, exactly.

    numpy converts one number at a time. Here their bits are moved to where float32 has them, many at a time: what is
    missing then is the difference of the exponents' biases, 127 - 15, and the factor for that is right for subnormal
    numbers too.
    """
    out = np.empty(halves.shape, dtype=np.float32)
    for start in range(0, len(halves), _ROWS_AT_ONCE):
        some = out[start : start + _ROWS_AT_ONCE]
        bits = some.view(np.int32)
        np.copyto(bits, halves[start : start + _ROWS_AT_ONCE].view(np.int16))  # keeps the sign at the top
        np.left_shift(bits, 13, out=bits)
        np.bitwise_and(bits, _HALF_BITS, out=bits)
        np.multiply(some, _BIASES, out=some)
    return out


_ROWS_AT_ONCE = 128
"""400 kB of 768 components: they stay in the cache from step to step."""

_HALF_BITS = np.int32(0x8FFFE000 - 2**32)
"""Sign, 5 bits of exponent and 10 of mantissa, in float32's places."""

_BIASES = np.float32(2.0**112)


def read_ahead(blocks: Iterator[Block]) -> Iterator[Block]:
    """The same blocks, each read by another thread while the one before it is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="vectors-ahead") as pool:
        coming = pool.submit(next, blocks, None)
        while (block := coming.result()) is not None:
            coming = pool.submit(next, blocks, None)
            yield block


def pack(vectors: Mapping[bytes, Vectors]) -> dict[bytes, bytes]:
    """Each vector as an fp16 row; without those that fp16 cannot hold (NaN, infinite, too large, nearly nothing).

    Raises:
        ValueError: a vector is not `(dim,)`.
    """
    by_dim: dict[int, list[bytes]] = {}
    for key, vector in vectors.items():
        if vector.ndim != 1 or not vector.size:
            raise ValueError(f"a vector to store must be (dim,), got {vector.shape}")
        by_dim.setdefault(len(vector), []).append(key)
    packed: dict[bytes, bytes] = {}
    for keys in by_dim.values():
        matrix = np.stack([np.asarray(vectors[key], dtype=np.float32) for key in keys])
        peaks = np.abs(matrix).max(axis=1)  # NaN where there is one, and then neither comparison holds
        fits = (peaks >= _SMALLEST) & (peaks <= _LARGEST)
        with np.errstate(over="ignore", invalid="ignore"):
            rows = matrix.astype("<f2")
        packed.update((key, row.tobytes()) for key, row, fit in zip(keys, rows, fits, strict=True) if fit)
    return packed


@dataclass
class Batch:
    """What waits to be written: fp16 rows by key, and keys by stamp."""

    vectors: dict[bytes, bytes] = field(default_factory=dict)
    stamps: dict[bytes, bytes] = field(default_factory=dict)


class BackgroundWriter:
    """One thread that writes what callers hand over and never wait for. Thread-safe; not to be taken across a fork.

    While a write runs the next batch gathers. What exceeds `capacity` is dropped: it is computed again one day.

    Args:
        write: writes a batch; should keep its troubles to itself.
        capacity: vectors, and as many stamps, that may wait.
    """

    def __init__(self, write: Callable[[Batch], None], capacity: int) -> None:
        self._write = write
        self._capacity = capacity
        self._waiting = Batch()
        self._changed = threading.Condition()
        self._asked = self._done = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="vector-store", daemon=True)
        self._thread.start()

    def add(self, vectors: Mapping[bytes, bytes], stamps: Mapping[bytes, bytes]) -> None:
        """Take over as much as there is room for. With nothing, just have the thread call `write` soon."""
        with self._changed:
            if self._closed:
                return
            for waiting, more in ((self._waiting.vectors, vectors), (self._waiting.stamps, stamps)):
                waiting.update(islice(more.items(), max(0, self._capacity - len(waiting))))
            self._asked += 1
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Whether all that was added before was written, or given up, in time."""
        with self._changed:
            wanted = self._asked
            return self._changed.wait_for(lambda: self._done >= wanted, timeout_s)

    def close(self, timeout_s: float) -> bool:
        """Write what waits, take no more, end the thread; whether that was done in time."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._asked > self._done)
                if self._asked == self._done:
                    return
                batch, self._waiting, taken = self._waiting, Batch(), self._asked
            try:
                self._write(batch)
            except Exception:  # without this thread nothing would ever be stored again
                log.exception("a batch for the vector store was lost")
            with self._changed:
                self._done = taken
                self._changed.notify_all()


def shown(error: Exception) -> str:
    """An error's first line, for people; it may quote what stands in a damaged file."""
    text = "".join(c if c.isprintable() else "?" for c in str(error).partition("\n")[0])
    return text[:200] or type(error).__name__


class Trouble:
    """Whether a store is to be left alone for now. Says so once, not for every image. Thread-safe.

    Args:
        what: what does not work and what that means, for people.
        pause_s: seconds the store is left alone after a failure.
    """

    def __init__(self, what: str, pause_s: float) -> None:
        self._what = what
        self._pause_s = pause_s
        self._lock = threading.Lock()
        self._failing = False
        self._until = self._warned = -float("inf")

    def paused(self) -> bool:
        """Whether it failed a moment ago and need not be asked again yet."""
        return self._failing and time.monotonic() < self._until

    def failed(self, error: Exception) -> None:
        """Pause; warn unless that was done for the same spell or within a minute."""
        now = time.monotonic()
        with self._lock:
            warn = not self._failing and now - self._warned >= _WARN_EVERY_S
            self._failing = True
            self._until = now + self._pause_s
            if warn:
                self._warned = now
        if warn:
            log.warning("%s (%s)", self._what, shown(error))

    def passed(self) -> None:
        """It worked."""
        self._failing = False
