"""Every index finds exactly what looking at all rows finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prelabel.worker.retrieval.index import NumpyIndex


def unit(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    rows = rng.normal(size=(count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def brute(vectors: np.ndarray, queries: np.ndarray, k: int, within: np.ndarray | None) -> np.ndarray:
    cosines = queries @ vectors.astype(np.float32).T
    rows = np.arange(len(vectors)) if within is None else np.flatnonzero(within)
    return np.stack([rows[np.lexsort((rows, -one[rows]))][:k] for one in cosines])


@pytest.fixture(params=[NumpyIndex])
def index(request):
    return request.param


@pytest.mark.parametrize("count", [1, 50, 2048, 5000])
@pytest.mark.parametrize("k", [1, 50, 6000])
@pytest.mark.parametrize("share", [None, 0.0, 0.01, 0.5, 1.0])
def test_the_nearest_rows_are_those_of_brute_force(index, count, k, share) -> None:
    rng = np.random.default_rng(count + k)
    vectors, queries = unit(rng, count, 16).astype(np.float16), unit(rng, 3, 16)
    within = None if share is None else rng.random(count) < share
    found = index(vectors).search(queries, k, within)
    expected = brute(vectors, queries, k, within)
    assert found.rows.shape == expected.shape
    exact = np.take_along_axis(queries @ vectors.astype(np.float32).T, expected, 1) if expected.size else expected
    assert np.allclose(found.cosines, exact, atol=1e-6)
    assert (np.diff(found.cosines, axis=1) <= 0).all()
    # Rows that differ by a rounding of the product alone may change places.
    swapped = found.rows != expected
    assert np.allclose(found.cosines[swapped], exact[swapped], atol=1e-6)
    assert all(set(mine) == set(theirs) for mine, theirs in zip(found.rows, expected, strict=True)) or k < count


@given(st.integers(1, 300), st.integers(1, 40), st.integers(0, 2**31))
def test_of_rows_that_are_equal_the_first_are_found(count, k, seed) -> None:
    rng = np.random.default_rng(seed)
    few = unit(rng, 3, 8).astype(np.float16)
    vectors = few[rng.integers(0, 3, count)]
    queries = few[:1].astype(np.float32)
    found = NumpyIndex(vectors).search(queries, k)
    assert (found.rows == brute(vectors, queries, k, None)).all()


def test_nothing_is_found_where_there_is_nothing(index) -> None:
    queries = unit(np.random.default_rng(0), 2, 8)
    found = index(np.zeros((0, 8), dtype=np.float16)).search(queries, 5)
    assert found.rows.shape == found.cosines.shape == (2, 0)
