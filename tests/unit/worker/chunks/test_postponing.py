"""When an item that failed is tried again later, and when that is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prelabel.schemas import ConfigError, ItemError, TransientError
from prelabel.schemas.errors import BrokerUnavailable, OutOfMemory, ScorerError
from prelabel.worker.chunks.postponing import Postponement


@pytest.mark.parametrize("error", [TransientError("503"), BrokerUnavailable("gone"), OutOfMemory("cuda")])
def test_what_may_pass_is_postponed_as_often_as_the_setting_says(error: Exception) -> None:
    made = [Postponement.of(error, postponed, 2) for postponed in range(4)]
    assert [one is not None for one in made] == [True, True, False, False]


@pytest.mark.parametrize("error", [ItemError("no image"), ConfigError("x"), ScorerError("nan"), ValueError("x")])
def test_what_does_not_pass_is_never_postponed(error: Exception) -> None:
    assert Postponement.of(error, 0, 20) is None


@given(st.integers(0, 19))
def test_the_pause_is_anything_up_to_a_bound_that_doubles(postponed: int) -> None:
    made = Postponement.of(TransientError("503"), postponed, 20)
    assert 0 <= made.pause_s() <= 4 * 2**postponed


@given(st.integers(0, 19), st.floats(0, 1e6))
def test_a_store_is_left_alone_for_as_long_as_it_asked(postponed: int, asked_s: float) -> None:
    made = Postponement.of(TransientError("429", retry_after_s=asked_s), postponed, 20)
    assert made.pause_s() >= asked_s


def test_the_longest_that_any_item_needs_holds_for_its_chunk() -> None:
    asked = [None, 90.0, 30.0]
    made = [Postponement.of(TransientError("429", retry_after_s=one), 0, 1) for one in asked]
    assert max(made).pause_s() >= 90
