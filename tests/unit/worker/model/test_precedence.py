"""Turns that bulk work gives up for what is urgent, and when it takes them all the same."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from prelabel.worker.model.precedence import EXPECTED_S, PATIENCE_S, Precedence, Turns
from tests.conftest import eventually


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Bulk:
    """Threads that take a turn and keep it until they are let go."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.inside = 0
        self._leave = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []

    def start(self, count: int) -> None:
        for _ in range(count):
            self._threads.append(threading.Thread(target=self._work, daemon=True))
            self._threads[-1].start()

    def let_go(self, count: int = 1) -> None:
        self._leave.release(count)

    def _work(self) -> None:
        with self._turns:
            self.inside += 1
            assert self._leave.acquire(timeout=20)
            self.inside -= 1

    def end(self) -> None:
        self.let_go(len(self._threads))
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def precedence(clock: Clock) -> Precedence:
    return Precedence(clock=clock)


@pytest.fixture
def make_bulk(precedence: Precedence, clock: Clock) -> Iterator[object]:
    made: list[Bulk] = []

    def make(turns: int) -> Bulk:
        made.append(Bulk(Turns(turns, precedence, clock)))
        return made[-1]

    yield make
    clock.now += 10 * PATIENCE_S
    for one in made:
        one.end()


def still(bulk: Bulk, inside: int) -> bool:
    """Whether nobody has come in after a while."""
    time.sleep(0.1)
    return bulk.inside == inside


def test_while_nothing_is_expected_there_are_as_many_turns_as_were_given(make_bulk) -> None:
    bulk = make_bulk(3)
    bulk.start(5)
    eventually(lambda: bulk.inside == 3)
    assert still(bulk, 3)
    bulk.let_go()
    assert still(bulk, 3)


def test_something_urgent_takes_two_turns_as_they_come_free_and_gives_them_back(make_bulk, precedence) -> None:
    bulk = make_bulk(3)
    bulk.start(6)
    eventually(lambda: bulk.inside == 3)
    with precedence.expect():
        bulk.let_go(2)
        eventually(lambda: bulk.inside == 1)
        assert still(bulk, 1)
        bulk.let_go()
        assert still(bulk, 1)
    eventually(lambda: bulk.inside == 3)


def test_many_urgent_ones_leave_a_large_host_most_of_its_turns(make_bulk, precedence) -> None:
    bulk = make_bulk(8)
    with precedence.expect(), precedence.expect(), precedence.expect():
        bulk.start(8)
        eventually(lambda: bulk.inside == 4)
        assert still(bulk, 4)
    eventually(lambda: bulk.inside == 8)


def test_turns_are_not_given_up_for_a_long_download(make_bulk, precedence, clock) -> None:
    bulk = make_bulk(2)
    with precedence.expect():
        clock.now += PATIENCE_S
        bulk.start(2)
        eventually(lambda: bulk.inside == 2)
        assert precedence.expected, "on the device one makes way all the same"


def test_a_stream_of_urgent_ones_leaves_a_turn_to_bulk_images_now_and_then(make_bulk, precedence, clock) -> None:
    bulk = make_bulk(2)
    with precedence.expect():
        bulk.start(2)
        assert still(bulk, 0)
        clock.now += 0.9 * PATIENCE_S
        with precedence.expect():
            clock.now += 0.2 * PATIENCE_S  # the first is old, the second is not
            eventually(lambda: bulk.inside == 1)
            assert still(bulk, 1), "the next in its time"


def test_whoever_waited_long_for_a_turn_makes_way_all_the_same(make_bulk, precedence, clock) -> None:
    bulk = make_bulk(2)
    bulk.start(2)
    eventually(lambda: bulk.inside == 2)
    bulk.start(4)
    for _ in range(3):
        with precedence.expect():
            bulk.let_go()
            eventually(lambda: bulk.inside == 1)
            clock.now += 0.9 * PATIENCE_S
            assert still(bulk, 1)
        eventually(lambda: bulk.inside == 2)


def test_the_end_of_an_announcement_is_told_whatever_became_of_it() -> None:
    told: list[bool] = []
    precedence = Precedence(lambda: told.append(precedence.expected))
    with pytest.raises(ValueError, match="broken"), precedence.expect():
        raise ValueError("a broken image")
    assert told == [False]


def test_what_a_slow_download_holds_up_is_expected_no_more_until_it_is_announced_again() -> None:
    clock = Clock()
    precedence = Precedence(clock=clock)
    with precedence.expect():
        clock.now += EXPECTED_S
        assert precedence.expected
        clock.now += 0.1
        assert not precedence.expected
        with precedence.expect():
            assert precedence.expected
        assert not precedence.expected
