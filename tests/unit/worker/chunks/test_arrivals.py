"""What many threads finish: all of it is taken, and the taker sleeps until there is enough."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from prelabel.worker.chunks.arrivals import Arrivals


def test_everything_that_many_threads_put_is_taken_once() -> None:
    arrivals: Arrivals[int] = Arrivals()
    taken: list[int] = []
    with ThreadPoolExecutor(8) as pool:
        for number in range(2000):
            pool.submit(arrivals.put, number)
        while len(taken) < 2000:
            taken += arrivals.take(min(32, 2000 - len(taken)), 10)
    assert sorted(taken) == list(range(2000))


def test_a_taker_sleeps_until_there_are_as_many_as_it_wants() -> None:
    arrivals: Arrivals[str] = Arrivals()
    got: list[list[str]] = []
    taker = threading.Thread(target=lambda: got.append(arrivals.take(3, 60)))
    taker.start()
    for one in "ab":
        arrivals.put(one)
    taker.join(0.1)
    assert taker.is_alive()
    arrivals.put("c")
    taker.join(10)
    assert got == [["a", "b", "c"]]


def test_when_its_time_is_over_a_taker_gets_what_there_is() -> None:
    arrivals: Arrivals[str] = Arrivals()
    arrivals.put("a")
    started = time.monotonic()
    assert arrivals.take(2, 0.05) == ["a"]
    assert time.monotonic() - started >= 0.05
    assert arrivals.take(1, 0.0) == []


def test_what_is_there_already_is_not_waited_for() -> None:
    arrivals: Arrivals[int] = Arrivals()
    for number in range(5):
        arrivals.put(number)
    assert arrivals.take(2, 60) == [0, 1, 2, 3, 4]
