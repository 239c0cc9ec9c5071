"""One message of each job on the push queue, and another when it was lost."""

from __future__ import annotations

import time

import pytest

from prelabel.integrations.broker.connection import connect_redis
from prelabel.integrations.ledger.keys import WATERMARKS, JobKeys
from prelabel.integrations.ledger.push_hints import PushHints
from prelabel.schemas.queues import QUEUE_PUSH

HOUR_MS = 3_600_000


@pytest.fixture
def redis(client):
    return client.connection.redis


@pytest.fixture
def hints(client, settings) -> PushHints:
    return PushHints(connect_redis(settings))


@pytest.fixture
def send(hints, redis):
    """As a worker does; the message is the job's id."""

    def send_if_due(job_id: str) -> None:
        if hints.due(job_id):
            redis.lpush(QUEUE_PUSH, job_id)

    return send_if_due


def messages(redis) -> list[str]:
    """The oldest first."""
    return [raw.decode() for raw in reversed(redis.lrange(QUEUE_PUSH, 0, -1))]


def age(redis, *jobs: str, ms: int = HOUR_MS) -> None:
    """As if that much time had passed since they were sent."""
    for job in jobs:
        redis.decrby(JobKeys(job).push_hinted, ms)


def test_a_job_has_one_message_however_often_it_has_something_to_push(send, redis) -> None:
    for _ in range(100):
        send("a")
        send("b")
    assert messages(redis) == ["a", "b"]


def test_who_took_the_message_hears_of_what_comes_after(send, hints, redis) -> None:
    send("a")
    redis.rpop(QUEUE_PUSH)
    hints.taken("a")
    send("a")
    assert messages(redis) == ["a"]


def test_a_message_that_waits_long_is_not_sent_again(send, redis) -> None:
    send("a")
    age(redis, "a")
    send("a")
    assert messages(redis) == ["a"]


def test_a_message_lost_with_its_queue_is_sent_again_though_not_while_it_may_be_on_its_way(send, redis) -> None:
    send("a")
    redis.delete(QUEUE_PUSH)
    send("a")
    assert messages(redis) == []
    age(redis, "a")
    send("a")
    send("a")
    assert messages(redis) == ["a"]


def test_a_message_that_younger_ones_overtook_is_sent_again(send, hints, redis) -> None:
    send("lost")
    redis.delete(QUEUE_PUSH)
    send("young")
    send("waiting")
    age(redis, "lost")
    send("lost")
    assert messages(redis) == ["young", "waiting"], "nothing says yet that it was overtaken"
    redis.rpop(QUEUE_PUSH)
    hints.taken("young")
    send("lost")
    assert messages(redis) == ["waiting", "lost"]


def test_a_clock_that_jumps_back_an_hour_costs_a_message_at_most(send, hints, redis) -> None:
    send("a")
    send("b")
    redis.rpop(QUEUE_PUSH)
    hints.taken("a")
    age(redis, "b", ms=-HOUR_MS)
    redis.hset(WATERMARKS, QUEUE_PUSH, int(time.time() * 1000) + HOUR_MS)
    for _ in range(10):
        send("b")
    assert messages(redis) == ["b", "b"]


def test_marks_of_jobs_that_are_gone_vanish(send, redis) -> None:
    send("a")
    assert 0 < redis.ttl(JobKeys("a").push_hinted) <= 86_400
