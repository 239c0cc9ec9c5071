"""Locks in Redis: one holder at a time, and nobody prolongs or removes what is another's."""

from __future__ import annotations

import pytest

from prelabel.integrations.broker.connection import connect_redis
from prelabel.integrations.broker.locks import LockLost, TimedLock
from prelabel.schemas import TransientError

NAME = "prelabel:test"
HOUR_MS = 3_600_000


@pytest.fixture
def redis(client):
    return client.connection.redis


@pytest.fixture
def lock(settings, redis):
    """Makes locks of one name, each with a connection of its own."""
    return lambda for_s=60.0: TimedLock(connect_redis(settings), NAME, for_s)


def test_one_at_a_time_has_it(lock) -> None:
    mine, other = lock(), lock()
    assert mine.take()
    assert not other.take()
    mine.give_back()
    assert other.take()


def test_a_holder_that_died_has_it_for_its_time_and_no_longer(lock, redis) -> None:
    assert lock(60).take()
    assert 59_000 < redis.pttl(NAME) <= 60_000


def test_to_keep_it_is_to_start_its_time_anew(lock, redis) -> None:
    mine = lock()
    mine.take()
    redis.pexpire(NAME, 100)
    mine.keep()
    assert redis.pttl(NAME) > 59_000


@pytest.mark.parametrize("lost", ["taken over", "expired"])
def test_what_was_lost_is_neither_kept_nor_given_back(lock, redis, lost: str) -> None:
    mine = lock()
    mine.take()
    redis.delete(NAME)
    if lost == "taken over":
        redis.set(NAME, "another", px=5000)
    with pytest.raises(LockLost, match="another") as error:
        mine.keep()
    assert isinstance(error.value, TransientError), "the work goes on later, with whoever has the lock"
    mine.give_back()
    assert redis.get(NAME) == (b"another" if lost == "taken over" else None)
    assert redis.pttl(NAME) <= 5000


def test_taking_and_giving_back_mean_the_same_twice(lock) -> None:
    """What is sent again because its reply was lost."""
    mine = lock()
    assert mine.take()
    assert mine.take()
    mine.give_back()
    mine.give_back()
    assert lock().take()


def test_a_lock_from_before_redis_clock_jumped_back_lasts_no_longer_than_any_other(lock, redis) -> None:
    lock(60).take()
    redis.pexpire(NAME, HOUR_MS)
    assert not lock(60).take()
    assert redis.pttl(NAME) <= 60_000


def test_a_lock_of_a_process_with_somewhat_other_settings_is_left_alone(lock, redis) -> None:
    lock(60).take()
    assert not lock(30).take()
    assert redis.pttl(NAME) > 59_000
