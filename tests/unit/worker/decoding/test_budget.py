"""One budget of memory over all threads that decode: what is inside at once is counted, in order, and never more."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from prelabel.worker.decoding.budget import LEAST_BYTES, DecodeBudget
from tests.conftest import eventually


@pytest.fixture
def began() -> list[str]:
    """The names of those that have got their share, in order."""
    return []


@pytest.fixture
def start(began: list[str]):
    """Begins a thread that takes a share, says so and holds it; gives what lets it go. All are let go at the end."""
    releases: list[threading.Event] = []
    threads: list[threading.Thread] = []

    def begin(budget: DecodeBudget, name: str, needed: int, *, urgent: bool = False) -> Callable[[], None]:
        release = threading.Event()

        def hold() -> None:
            with budget.take(needed, urgent=urgent):
                began.append(name)
                release.wait()

        waiting = budget.waiting
        threads.append(threading.Thread(target=hold))
        releases.append(release)
        threads[-1].start()
        eventually(lambda: name in began or budget.waiting > waiting)
        return release.set

    yield begin
    for release in releases:
        release.set()
    for thread in threads:
        thread.join()


def test_who_finds_room_goes_at_once_and_who_does_not_waits(start, began) -> None:
    budget = DecodeBudget(100)
    end_first = start(budget, "first", 60)
    start(budget, "second", 40)
    start(budget, "third", 1)
    assert (began, budget.taken, budget.waiting) == (["first", "second"], 100, 1)
    end_first()
    eventually(lambda: began == ["first", "second", "third"])


def test_a_large_one_is_not_passed_by_small_ones(start, began) -> None:
    budget = DecodeBudget(100)
    end = start(budget, "first", 50)
    start(budget, "large", 80)
    start(budget, "small", 10)
    assert began == ["first"]
    end()
    eventually(lambda: began == ["first", "large", "small"])


def test_one_larger_than_the_budget_waits_for_all_others_and_goes_alone(start, began) -> None:
    budget = DecodeBudget(100)
    ends = [start(budget, name, 10) for name in ("a", "b")]
    end_giant = start(budget, "giant", 10**9)
    ends[0]()
    eventually(lambda: budget.taken == 10)
    assert "giant" not in began
    ends[1]()
    eventually(lambda: "giant" in began)
    start(budget, "after", 1)
    assert "after" not in began
    end_giant()
    eventually(lambda: "after" in began)


def test_urgent_ones_go_first(start, began) -> None:
    budget = DecodeBudget(100)
    end = start(budget, "first", 100)
    start(budget, "bulk", 100)
    end_urgent = start(budget, "urgent", 100, urgent=True)
    end()
    eventually(lambda: began == ["first", "urgent"])
    end_urgent()
    eventually(lambda: began == ["first", "urgent", "bulk"])


def test_a_share_shrinks_once_and_is_given_back_once() -> None:
    budget = DecodeBudget(100)
    share = budget.take(80)
    share.shrink(30)
    assert budget.taken == 30
    share.shrink(50)
    assert budget.taken == 30
    share.release()
    share.release()
    assert budget.taken == 0


def test_an_error_gives_the_share_back() -> None:
    budget = DecodeBudget(100)
    with pytest.raises(ZeroDivisionError), budget.take(80):
        _ = 1 / 0
    assert budget.taken == 0


def test_without_a_limit_it_is_measured() -> None:
    assert DecodeBudget().limit >= LEAST_BYTES
