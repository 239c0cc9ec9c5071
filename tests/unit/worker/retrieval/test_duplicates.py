"""Near duplicates are found as if every row were held against every other in float64, whatever their number."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prelabel.schemas.errors import ConfigError
from prelabel.worker.retrieval.duplicates import Group, duplicate_groups
from prelabel.worker.retrieval.exact import rounding


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def crowds(rng: np.random.Generator, sizes: list[int], dim: int, apart: float) -> np.ndarray:
    """Rows around random centres, shuffled: `apart` is about how far from them."""
    centres = unit(rng.normal(size=(len(sizes), dim)))
    rows = np.repeat(centres, sizes, axis=0)
    rows = unit(rows + apart * unit(rng.normal(size=rows.shape)))
    return rows[rng.permutation(len(rows))].astype(np.float16)


def cosines_of(rows: np.ndarray) -> np.ndarray:
    exact = unit(rows.astype(np.float64))
    return exact @ exact.T


def by_the_rule(rows: np.ndarray, threshold: float) -> list[set[int]]:
    """What the docstring says, word for word."""
    near = cosines_of(rows) >= threshold
    np.fill_diagonal(near, False)
    free, groups = set(range(len(rows))), []
    for row in sorted(range(len(rows)), key=lambda row: (-near[row].sum(), row)):
        theirs = {other for other in np.flatnonzero(near[row]) if other in free}
        if row in free and theirs:
            groups.append({row, *theirs})
            free -= groups[-1]
    return groups


def sets(groups: list[Group]) -> list[set[int]]:
    return [set(group.rows.tolist()) for group in groups]


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=8),
    dim=st.integers(2, 24),
    apart=st.floats(0, 0.8),
    threshold=st.floats(0.3, 1),
    block=st.integers(1, 100),
    seed=st.integers(0, 2**31),
)
def test_groups_are_those_of_the_rule(sizes, dim, apart, threshold, block, seed) -> None:
    rows = crowds(np.random.default_rng(seed), sizes, dim, apart)
    groups = duplicate_groups(rows, threshold, block=block)
    doubtful = np.abs(cosines_of(rows) - threshold) <= 2 * rounding(dim) + 1e-9
    np.fill_diagonal(doubtful, False)
    if not doubtful.any():
        assert sorted(map(sorted, sets(groups))) == sorted(map(sorted, by_the_rule(rows, threshold)))


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    apart=st.floats(0, 0.8),
    threshold=st.floats(0.3, 1),
    seed=st.integers(0, 2**31),
)
def test_each_row_of_a_group_is_near_to_its_representative(sizes, apart, threshold, seed) -> None:
    rows = crowds(np.random.default_rng(seed), sizes, 12, apart)
    cosines = cosines_of(rows)
    groups = duplicate_groups(rows, threshold)
    every = [row for group in groups for row in group.rows.tolist()]
    assert len(set(every)) == len(every), "a row is in two groups"
    for group in groups:
        assert len(group.rows) >= 2
        assert group.rows[0] == group.representative
        assert np.allclose(group.cosines, cosines[group.representative, group.rows], atol=1e-6)
        assert (group.cosines >= threshold - 2 * rounding(12)).all()
        assert (np.diff(group.cosines[1:]) <= 0).all()
    assert [len(group.rows) for group in groups] == sorted((len(group.rows) for group in groups), reverse=True)


def test_a_chain_is_cut_where_its_ends_are_unlike() -> None:
    """Five directions 20 degrees apart: each is near to the next alone, and the third has no more than the second."""
    angles = np.deg2rad(np.arange(0, 100, 20))
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float16)
    groups = duplicate_groups(rows, float(np.cos(np.deg2rad(25))))
    assert sets(groups) == [{0, 1, 2}, {3, 4}]
    assert [group.representative for group in groups] == [1, 3]


@pytest.mark.parametrize("length", [1.0, 0.3, 40.0])
def test_equal_rows_are_duplicates_at_a_threshold_of_1_whatever_their_length(length: float) -> None:
    rng = np.random.default_rng(0)
    rows = (unit(rng.normal(size=(30, 300))) * length).astype(np.float16)
    rows[[7, 20, 29]] = rows[3]
    (group,) = duplicate_groups(rows, 1.0)
    assert group.representative == 3
    assert set(group.rows.tolist()) == {3, 7, 20, 29}
    assert np.allclose(group.cosines, 1)


def test_rows_of_zeros_are_like_no_other() -> None:
    assert duplicate_groups(np.zeros((5, 8), dtype=np.float16), 0.5) == []


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_rows_outside_the_filter_are_as_if_not_there(share: float) -> None:
    rng = np.random.default_rng(1)
    rows = crowds(rng, [5, 40, 3, 1, 1, 20], 16, 0.3)
    within = rng.random(len(rows)) < share
    found = duplicate_groups(rows, 0.9, block=16, within=within)
    numbers = np.flatnonzero(within)
    alone = duplicate_groups(rows[numbers], 0.9)
    assert [group.rows.tolist() for group in found] == [numbers[group.rows].tolist() for group in alone]


def test_no_rows_have_no_duplicates() -> None:
    assert duplicate_groups(np.zeros((0, 8), dtype=np.float16), 0.9) == []


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 300])
def test_progress_is_told_to_its_end(rows: int) -> None:
    told: list[tuple[int, int]] = []
    vectors = unit(np.random.default_rng(2).normal(size=(rows, 8))).astype(np.float16)
    duplicate_groups(vectors, 0.9, block=64, progress=lambda done, total: told.append((done, total)))
    blocks = -(-rows // 64)
    total = blocks * (blocks + 1) // 2
    assert told == [(done, total) for done in range(1, total + 1)]


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, float("nan")])
def test_a_threshold_that_is_no_cosine_of_duplicates_is_refused(threshold: float) -> None:
    with pytest.raises(ConfigError, match="above 0 and at most 1"):
        duplicate_groups(np.zeros((2, 8), dtype=np.float16), threshold)


def test_a_block_of_no_rows_is_refused() -> None:
    with pytest.raises(ConfigError, match="blocks of 1 or more"):
        duplicate_groups(np.zeros((2, 8), dtype=np.float16), 0.9, block=0)


def test_memory_does_not_grow_with_the_pairs() -> None:
    """Twenty thousand equal rows are 200 million pairs; a byte each would be 200 MB."""
    rows = np.tile(unit(np.random.default_rng(3).normal(size=(1, 16))).astype(np.float16), (20_000, 1))
    tracemalloc.start()
    try:
        groups = duplicate_groups(rows, 0.99, block=1024)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [len(group.rows) for group in groups] == [20_000]
    assert groups[0].representative == 0
    assert peak < 40e6
