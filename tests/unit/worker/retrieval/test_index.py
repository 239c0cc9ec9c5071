"""Every index finds exactly what looking at all rows in float64 finds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prelabel.schemas.errors import ConfigError
from prelabel.worker.retrieval.codes import encode
from prelabel.worker.retrieval.faiss_index import FaissIndex
from prelabel.worker.retrieval.index import Found, NumpyIndex, VectorIndex
from prelabel.worker.retrieval.open_index import open_index

Make = Callable[[np.ndarray], VectorIndex]

INDEXES: dict[str, Make] = {
    "numpy": NumpyIndex,
    "numpy with codes": lambda rows: NumpyIndex(rows, encode(rows)),
    "faiss": FaissIndex,
}


@pytest.fixture(params=INDEXES.values(), ids=INDEXES.keys())
def index(request: pytest.FixtureRequest) -> Make:
    return request.param


def unit(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    rows = rng.normal(size=(count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def brute(vectors: np.ndarray, queries: np.ndarray, k: int, within: np.ndarray | None) -> Found:
    """All rows in float64; equal rows have equal sums, which a matrix product does not promise."""
    cosines = np.stack([(vectors.astype(np.float64) * one.astype(np.float64)).sum(axis=1) for one in queries])
    rows = np.arange(len(vectors)) if within is None else np.flatnonzero(within)
    best = np.stack([rows[np.lexsort((rows, -one[rows]))][:k] for one in cosines])
    return Found(best, np.take_along_axis(cosines, best, 1).astype(np.float32))


def assert_same(found: Found, expected: Found) -> None:
    assert found.rows.dtype == np.int64
    assert found.cosines.dtype == np.float32
    assert np.array_equal(found.rows, expected.rows)
    assert np.array_equal(found.cosines, expected.cosines)


@pytest.mark.parametrize("count", [1, 50, 1024, 1025, 12288, 12289])
@pytest.mark.parametrize("k", [1, 50, 20000])
@pytest.mark.parametrize("share", [None, 0.0, 0.01, 0.5, 1.0])
def test_the_nearest_rows_are_those_of_brute_force(index: Make, count: int, k: int, share: float | None) -> None:
    rng = np.random.default_rng(count + k)
    vectors, queries = unit(rng, count, 16).astype(np.float16), unit(rng, 3, 16)
    within = None if share is None else rng.random(count) < share
    assert_same(index(vectors).search(queries, k, within), brute(vectors, queries, k, within))


@given(
    count=st.integers(0, 400),
    dim=st.integers(1, 40),
    kinds=st.integers(1, 400),
    asked=st.integers(1, 5),
    k=st.integers(1, 60),
    wanted=st.one_of(st.none(), st.floats(0, 1)),
    seed=st.integers(0, 2**31),
)
def test_all_indexes_find_the_same_whatever_the_rows(
    count: int, dim: int, kinds: int, asked: int, k: int, wanted: float | None, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors = unit(rng, kinds, dim).astype(np.float16)[rng.integers(0, kinds, count)]
    queries = unit(rng, asked, dim)
    within = None if wanted is None else rng.random(count) < wanted
    expected = brute(vectors, queries, k, within)
    for make in INDEXES.values():
        assert_same(make(vectors).search(queries, k, within), expected)


@pytest.mark.parametrize("share", [None, 0.1, 0.9])
def test_of_rows_that_are_equal_the_first_are_found(index: Make, share: float | None) -> None:
    rng = np.random.default_rng(3)
    few = unit(rng, 3, 96).astype(np.float16)
    vectors = few[rng.integers(0, 3, 5000)]
    queries = few.astype(np.float32)
    within = None if share is None else rng.random(len(vectors)) < share
    found = index(vectors).search(queries, 40, within)
    assert (np.diff(found.rows, axis=1) > 0).all()
    assert_same(found, brute(vectors, queries, 40, within))


@pytest.mark.parametrize("share", [None, 0.1, 0.6])
def test_rows_that_float32_cannot_tell_apart_are_in_their_true_order(index: Make, share: float | None) -> None:
    """Rows of the smallest steps of fp16: a float32 sum loses them beside a large first component."""
    rng = np.random.default_rng(4)
    vectors = np.zeros((5000, 256), dtype=np.float16)
    vectors[:, 0] = 1
    vectors[:, 1:] = rng.integers(-1, 2, (5000, 255)) * np.float16(2.0**-24)
    queries = rng.normal(size=(2, 256)).astype(np.float32)
    queries[:, 0] = 40
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    cosines = vectors.astype(np.float32) @ queries.T
    assert len(np.unique(cosines)) < 20, "float32 tells them apart"
    within = None if share is None else rng.random(len(vectors)) < share
    assert_same(index(vectors).search(queries, 7, within), brute(vectors, queries, 7, within))


def test_a_filter_that_keeps_the_far_half_still_finds_all_that_it_keeps(index: Make) -> None:
    """The nearest rows of all are none of those wanted."""
    rng = np.random.default_rng(5)
    vectors, queries = unit(rng, 4000, 16).astype(np.float16), unit(rng, 1, 16)
    cosines = (vectors.astype(np.float32) @ queries.T)[:, 0]
    within = cosines < np.median(cosines)
    assert_same(index(vectors).search(queries, 30, within), brute(vectors, queries, 30, within))


def test_each_of_several_queries_has_the_answer_it_has_alone(index: Make) -> None:
    rng = np.random.default_rng(6)
    searched = index(unit(rng, 3000, 24).astype(np.float16))
    queries = unit(rng, 9, 24)
    together = searched.search(queries, 11)
    for at, query in enumerate(queries):
        alone = searched.search(query[np.newaxis], 11)
        assert_same(alone, Found(together.rows[at : at + 1], together.cosines[at : at + 1]))


def test_nothing_is_found_where_there_is_nothing(index: Make) -> None:
    queries = unit(np.random.default_rng(0), 2, 8)
    found = index(np.zeros((0, 8), dtype=np.float16)).search(queries, 5)
    assert found.rows.shape == found.cosines.shape == (2, 0)


def test_no_query_finds_nothing(index: Make) -> None:
    rng = np.random.default_rng(0)
    found = index(unit(rng, 10, 8).astype(np.float16)).search(unit(rng, 0, 8), 5)
    assert len(found.rows) == len(found.cosines) == 0


def test_threads_share_an_index(index: Make) -> None:
    rng = np.random.default_rng(7)
    vectors, queries = unit(rng, 6000, 32).astype(np.float16), unit(rng, 40, 32)
    searched = index(vectors)
    withins = [None, *(rng.random(6000) < share for share in (0.05, 0.8))]

    def ask(at: int) -> Found:
        return searched.search(queries[at : at + 1], 10, withins[at % 3])

    with ThreadPoolExecutor(8) as pool:
        for at, found in enumerate(pool.map(ask, range(len(queries)))):
            assert_same(found, brute(vectors, queries[at : at + 1], 10, withins[at % 3]))


def test_a_mapped_file_is_searched_where_it_lies(index: Make, tmp_path: Path) -> None:
    """What is written to the file afterwards is what is found: nobody has copied the rows."""
    rng = np.random.default_rng(8)
    rows = unit(rng, 500, 16).astype("<f2")
    mapped = np.memmap(tmp_path / "rows", dtype="<f2", mode="w+", shape=rows.shape)
    mapped[:] = rows[::-1]
    searched = index(np.memmap(tmp_path / "rows", dtype="<f2", mode="r", shape=rows.shape))
    if index is INDEXES["numpy with codes"]:
        assert_same(searched.search(rows[:2].astype(np.float32), 3), brute(mapped, rows[:2], 3, None))
        return
    mapped[:] = rows
    assert_same(searched.search(rows[:2].astype(np.float32), 3), brute(rows, rows[:2], 3, None))


@given(st.integers(1, 60), st.integers(1, 80), st.floats(1e-6, 1), st.integers(0, 2**31))
def test_codes_are_no_further_from_their_rows_than_they_say(count: int, dim: int, size: float, seed: int) -> None:
    rows = (unit(np.random.default_rng(seed), count, dim) * size).astype(np.float16)
    values, steps, errors = encode(rows)
    apart = rows.astype(np.float64) - values * steps.astype(np.float64)[:, np.newaxis]
    assert (np.linalg.norm(apart, axis=1) <= errors).all()


def test_the_fastest_index_there_is_opens_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = unit(np.random.default_rng(0), 5, 8).astype(np.float16)
    assert isinstance(open_index(rows), FaissIndex)
    assert isinstance(open_index(rows, "faiss"), FaissIndex)
    assert isinstance(open_index(rows, "numpy"), NumpyIndex)
    monkeypatch.delitem(sys.modules, FaissIndex.__module__)
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert isinstance(open_index(rows), NumpyIndex)
    with pytest.raises(ConfigError, match=r"pip install 'prelabel\[search\]'"):
        open_index(rows, "faiss")
