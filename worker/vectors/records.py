"""What a store keeps of a vector: a record of checksum, the vector's key, and its components as fp16.

The checksum covers key and components, so that neither damage nor a wrong index entry can give a wrong vector. What is
done to records is done to many at once: a stream of them is read, checked and converted at nearly the speed of memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from ..arrays import Vectors

KEY_BYTES = 16
_CHECKSUM_BYTES = 8
_HEADER_BYTES = _CHECKSUM_BYTES + KEY_BYTES

Records = NDArray[np.uint8]
"""`(n, record_bytes(dim))`: XXH3-64 of all that follows, key, fp16 components; all little-endian."""

Halves = NDArray[np.float16]
"""Stored embeddings, un-normalised, little-endian: `(n, dim)`."""

_LARGEST = 65504.0
"""fp16's largest number."""

_SMALLEST = 2.0**-10
"""A vector whose largest component is smaller has lost its direction in fp16's steps of 2 ** -24."""


class Block(NamedTuple):
    """Some of the stored vectors that were asked for.

    Attributes:
        positions: `(n,)`, which of the keys asked for these are.
        vectors: `(n, dim)` float16, un-normalised; the caller's own, rows not adjacent in memory.
    """

    positions: NDArray[np.intp]
    vectors: Halves


def as_stored(vectors: Vectors) -> Vectors:
    """Vectors as a store gives them back, so that an image has the same numbers whether its vector is fresh or stored.

    Args:
        vectors: `(n, dim)` float32.

    Returns:
        The same, rounded to fp16; a row that no store takes stays as it is.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        rounded: Vectors = vectors.astype(np.float16).astype(np.float32)
    fits = _fits(vectors)
    return rounded if fits.all() else np.where(fits[:, np.newaxis], rounded, vectors)


def _fits(matrix: Vectors) -> NDArray[np.bool_]:
    """`(n,)`: which rows fp16 can hold."""
    peaks = np.abs(matrix).max(axis=1)  # NaN where there is one, and then neither comparison holds
    fits: NDArray[np.bool_] = (peaks >= _SMALLEST) & (peaks <= _LARGEST)
    return fits


def record_bytes(dim: int) -> int:
    """Size of a record of `dim` components."""
    return _HEADER_BYTES + 2 * dim


def record_dim(size: int) -> int:
    """Components of a record of `size` bytes; 0 when no record has that size."""
    return max(0, size - _HEADER_BYTES) // 2 if size % 2 == 0 else 0


def pack(vectors: Mapping[bytes, Vectors]) -> dict[bytes, bytes]:
    """Each vector as a record; without those that fp16 cannot hold (NaN, infinite, too large, nearly nothing).

    Raises:
        ValueError: a vector is not `(dim,)`, or a key not of 16 bytes.
    """
    by_dim: dict[int, list[bytes]] = {}
    for key, vector in vectors.items():
        if vector.ndim != 1 or not vector.size:
            raise ValueError(f"a vector to store must be (dim,), got {vector.shape}")
        if len(key) != KEY_BYTES:
            raise ValueError(f"a vector's key must be of {KEY_BYTES} bytes, got {len(key)}")
        by_dim.setdefault(len(vector), []).append(key)
    packed: dict[bytes, bytes] = {}
    for dim, keys in by_dim.items():
        matrix = np.stack([np.asarray(vectors[key], dtype=np.float32) for key in keys])
        fits = _fits(matrix)
        records: Records = np.empty((len(keys), record_bytes(dim)), dtype=np.uint8)
        with np.errstate(over="ignore", invalid="ignore"):
            records[:, _HEADER_BYTES:] = matrix.astype("<f2").view(np.uint8)
        records[:, _CHECKSUM_BYTES:_HEADER_BYTES] = _as_rows(keys)
        records[:, :_CHECKSUM_BYTES] = _checksums(records).view(np.uint8).reshape(-1, _CHECKSUM_BYTES)
        packed.update((key, row.tobytes()) for key, row, fit in zip(keys, records, fits, strict=True) if fit)
    return packed


def sound(records: Records, keys: Sequence[bytes]) -> NDArray[np.bool_]:
    """`(n,)`: which records are what was once packed under their key."""
    good: NDArray[np.bool_] = (records[:, _CHECKSUM_BYTES:_HEADER_BYTES] == _as_rows(keys)).all(axis=1)
    theirs = records if good.all() else records[good]
    checksums = np.ascontiguousarray(theirs[:, :_CHECKSUM_BYTES]).view("<u8").reshape(-1)
    good[good] = checksums == _checksums(theirs)
    return good


def vectors_of(records: Records) -> Halves:
    """`(n, dim)`: the components, in the records' own memory."""
    return records[:, _HEADER_BYTES:].view("<f2")


def stamp_checksum(stamp: bytes, key: bytes) -> int:
    """XXH32 of a stamp and the vector key it leads to."""
    return xxhash.xxh32_intdigest(stamp + key)


def places_of(keys: Sequence[bytes], start: int) -> dict[bytes, list[int]]:
    """Where each of the keys stands, counted from `start`; one that is given twice has two places."""
    places: dict[bytes, list[int]] = {}
    for at, key in enumerate(keys, start):
        places.setdefault(key, []).append(at)
    return places


def block_of(records: Records, keys: Sequence[bytes], places: Mapping[bytes, list[int]]) -> Block:
    """The vectors of `records`, whose are `keys`, each once for each of its `places`."""
    positions = [places[key] for key in keys]
    again = np.repeat(np.arange(len(keys)), [len(each) for each in positions])
    flat = np.fromiter(chain.from_iterable(positions), dtype=np.intp, count=len(again))
    return Block(flat, vectors_of(records)[again])


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


def _as_rows(keys: Sequence[bytes]) -> Records:
    return np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), KEY_BYTES)


def _checksums(records: Records) -> NDArray[np.uint64]:
    rest = records[:, _CHECKSUM_BYTES:]
    return np.fromiter(map(xxhash.xxh3_64_intdigest, rest), dtype="<u8", count=len(rest))
