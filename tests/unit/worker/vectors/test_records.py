"""Records: what goes in comes out as fp16 has it, and nothing else is taken for it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from prelabel.worker.vectors.records import floats, pack, record_bytes, record_dim, sound, vectors_of
from tests.unit.worker.vectors.samples import filled, key, vector

RECORDS = np.stack([np.frombuffer(record, dtype=np.uint8) for record in pack(filled(range(5))).values()])
KEYS = [key(number) for number in range(5)]


def test_a_record_holds_its_vector_as_fp16() -> None:
    assert RECORDS.shape == (5, record_bytes(8))
    assert sound(RECORDS, KEYS).all()
    assert np.array_equal(vectors_of(RECORDS), np.stack([vector(number).astype(np.float16) for number in range(5)]))
    assert np.shares_memory(vectors_of(RECORDS), RECORDS)


def test_a_record_says_how_long_its_vector_is() -> None:
    assert [record_dim(record_bytes(dim)) for dim in (1, 3, 768)] == [1, 3, 768]
    assert [record_dim(size) for size in (0, 4, record_bytes(0), record_bytes(1) - 1)] == [0, 0, 0, 0]


@given(st.sets(st.integers(0, record_bytes(8) * 8 - 1), min_size=1, max_size=6), st.integers(0, 4))
def test_a_record_with_flipped_bits_is_not_sound_and_its_neighbours_are(bits, which) -> None:
    damaged = RECORDS.copy()
    for bit in bits:
        damaged[which, bit // 8] ^= 1 << bit % 8
    assert sound(damaged, KEYS).tolist() == [number != which for number in range(5)]


@given(st.permutations(range(5)))
def test_another_keys_record_is_not_sound(order) -> None:
    good = sound(RECORDS, [KEYS[number] for number in order])
    assert good.tolist() == [number == place for place, number in enumerate(order)]


def test_what_a_file_does_not_have_is_not_sound() -> None:
    assert not sound(np.zeros_like(RECORDS), KEYS).any()
    assert not sound(np.zeros_like(RECORDS), [bytes(16)] * 5).any()


def test_every_finite_fp16_number_becomes_its_float32() -> None:
    every = np.arange(65536, dtype=np.uint16).view("<f2")
    finite = every[np.isfinite(every)]
    converted = floats(finite.reshape(-1, 16))
    assert converted.dtype == np.float32
    assert np.array_equal(converted.view(np.uint32), finite.astype(np.float32).reshape(-1, 16).view(np.uint32))
    assert floats(finite[:0].reshape(0, 16)).shape == (0, 16)
