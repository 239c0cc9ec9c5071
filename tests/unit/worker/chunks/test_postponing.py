"""When an item that failed is tried again later, and when that is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prelabel.schemas import ConfigError, ItemError, TransientError
from prelabel.schemas.errors import BrokerUnavailable, OutOfMemory, ScorerError
from prelabel.worker.chunks.postponing import PostponedItems, Postponement


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


class TestTheItemsOfAChunk:
    BUSY, LOST = TransientError("429", retry_after_s=90.0), ItemError("no image")

    def test_those_that_may_pass_are_counted_and_the_others_fail(self) -> None:
        items = PostponedItems(postponed=0, retries=2)
        assert items.pause_s() is None
        assert [items.take(error) for error in (self.BUSY, self.LOST, OutOfMemory("cuda"))] == [True, False, True]
        assert items.count == 2

    def test_wait_for_the_longest_of_their_pauses(self) -> None:
        items = PostponedItems(postponed=0, retries=2)
        items.take(self.BUSY)
        items.take(TransientError("503"), items=5)
        assert items.count == 6
        assert items.pause_s() >= 90

    def test_a_pause_is_never_so_short_that_it_would_not_count(self, monkeypatch) -> None:
        monkeypatch.setattr("random.uniform", lambda low, high: low)
        items = PostponedItems(postponed=0, retries=2)
        items.take(TransientError("503"))
        assert items.pause_s() > 0

    def test_asking_whether_an_error_may_pass_postpones_nothing(self) -> None:
        items = PostponedItems(postponed=1, retries=2)
        assert items.may_pass(self.BUSY)
        assert items.count == 0
        assert not PostponedItems(postponed=2, retries=2).may_pass(self.BUSY)
