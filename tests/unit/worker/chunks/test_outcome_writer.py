"""Writing a chunk's outcomes: when it is due, what a Redis that is away does to it, and who learns of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import redis

from prelabel.integrations.ledger.leases import Answered, ChunkRef, Lease, Ledger, Written
from prelabel.schemas import Answer, Item, ItemFailure, JobSpec, JobState, Outcome, PushTarget, Taxonomy
from prelabel.worker.chunks import outcome_writer
from prelabel.worker.chunks.outcome_writer import FLUSH_ITEMS, FLUSH_S, OutcomeWriter
from prelabel.worker.chunks.tools import Tools
from prelabel.worker.delivering.showcase import Exhibit
from prelabel.worker.telemetry import metrics
from tests.answering import record_of

GOOD = Outcome(model_version="m", answers=(Answer(control="label", rule="softmax", paths=(("cat",),), confidence=0.9),))
BAD = Outcome(error=ItemFailure(kind="ItemError", message="empty file"))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Interrupted:
    """A ledger whose first writes are lost on the way to Redis, or whose answers are lost on the way back."""

    def __init__(self, ledger: Ledger, *errors: redis.RedisError, after: bool = False) -> None:
        self._ledger = ledger
        self._errors = list(errors)
        self._after = after
        self.before_each: Callable[[], None] = lambda: None

    def complete(self, *what: Any, **how: Any) -> Written:
        return self._interrupted(lambda: self._ledger.complete(*what, **how))

    def release(self, lease: Lease, pause_s: float) -> bool:
        return self._interrupted(lambda: self._ledger.release(lease, pause_s))

    def _interrupted(self, write: Callable[[], Any]) -> Any:
        self.before_each()
        if self._errors and self._after:
            write()
        if self._errors:
            raise self._errors.pop(0)
        return write()


@pytest.fixture
def pushes() -> list[str]:
    return []


@pytest.fixture
def shown() -> list[Exhibit]:
    return []


@pytest.fixture
def tools(ledger, pushes, shown) -> Tools:
    """Those of a worker without a model: a writer asks none of it."""
    absent: Any = None

    def show(_job: str, _spec: JobSpec, scored: Sequence[Exhibit]) -> None:
        shown.extend(scored)

    return Tools(
        engine=absent,
        scorers=absent,
        bulk=absent,
        urgent=absent,
        ledger=ledger(),
        hint=absent,
        push=pushes.append,
        stopping=threading.Event(),
        show=show,
    )


@pytest.fixture
def lease(client, tools) -> Lease:
    push = PushTarget(project=1, label_config="<View/>")
    job = client.submit([f"s3://b/{i}.jpg" for i in range(3)], Taxonomy.flat(["cat"]), push=push)
    return tools.ledger.claim(ChunkRef(job.id, 0))


def interrupted(tools: Tools, *errors: redis.RedisError, after: bool = False) -> Tools:
    flaky: Any = Interrupted(tools.ledger, *errors, after=after)
    return replace(tools, ledger=flaky)


class TestWhenAWriteIsDue:
    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def writer(self, tools, lease, clock) -> OutcomeWriter:
        return OutcomeWriter(tools, lease, clock)

    def test_never_while_there_is_nothing_to_write(self, writer, clock) -> None:
        clock.now += 3600
        assert not writer.due

    def test_for_a_single_outcome_once_the_last_write_is_long_enough_ago(self, writer, clock) -> None:
        writer.add(0, GOOD)
        assert not writer.due
        clock.now += FLUSH_S
        assert writer.due
        writer.write(left=2)
        writer.add(1, GOOD)
        assert not writer.due

    def test_for_many_at_once(self, writer) -> None:
        for ordinal in range(FLUSH_ITEMS):
            assert not writer.due
            writer.add(ordinal, GOOD)
        assert writer.due

    def test_records_count_by_their_items_and_are_large_by_their_bytes(self, writer, monkeypatch) -> None:
        record = record_of(Taxonomy.flat(["cat"]), ["cat"] * 3)
        monkeypatch.setattr(outcome_writer, "_LARGE_BYTES", 2 * len(record) - 1)
        writer.add_answered(Answered([0, 1, 2], record), [])
        assert not writer.is_large
        writer.add_answered(Answered([0, 1, 2], record), [])
        assert writer.is_large
        writer.write(left=1)
        assert not writer.is_large
        for _ in range(FLUSH_ITEMS // 3):
            writer.add_answered(Answered([0, 1, 2], record), [])
            assert not writer.due
        writer.add_answered(Answered([0, 1, 2], record), [])
        assert writer.due


class TestWhatAWriteDoes:
    def test_outcomes_are_in_the_ledger_and_the_chunk_stays_open_while_items_are_left(
        self, client, tools, lease
    ) -> None:
        writer, job = OutcomeWriter(tools, lease), client.job(lease.ref.job_id)
        writer.add(0, GOOD)
        writer.add(1, BAD)
        assert writer.write(left=1)
        assert [(one.ordinal, one.ok) for one in job.results_so_far()] == [(0, True), (1, False)]
        assert job.progress().state is JobState.RUNNING
        writer.add(2, GOOD)
        assert writer.write(left=0)
        assert job.progress().state is JobState.DONE

    def test_predictions_are_announced_for_the_push(self, tools, lease, pushes) -> None:
        writer = OutcomeWriter(tools, lease)
        writer.write(left=3)
        assert pushes == [], "there is nothing to push yet"
        writer.add(0, GOOD)
        writer.write(left=2)
        assert pushes == [lease.ref.job_id]

    def test_what_may_be_shown_is_shown_once(self, tools, lease, shown) -> None:
        writer, example = OutcomeWriter(tools, lease), Exhibit(Item.of("s3://b/0.jpg"), lambda: GOOD, "")
        writer.add(0, GOOD, example)
        writer.add(1, BAD)
        writer.write(left=1)
        writer.write(left=1)
        assert shown == [example]

    def test_a_lease_that_was_lost_writes_announces_and_shows_nothing(
        self, client, tools, lease, pushes, shown
    ) -> None:
        writer, job = OutcomeWriter(tools, lease), client.job(lease.ref.job_id)
        job.cancel()
        writer.add(0, GOOD, Exhibit(Item.of("s3://b/0.jpg"), lambda: GOOD, ""))
        assert not writer.write(left=2)
        assert (list(job.results_so_far()), pushes, shown) == ([], [], [])


class TestWhileRedisIsAway:
    AWAY = redis.ConnectionError("connection refused")

    def test_a_write_is_repeated_until_redis_is_back(self, client, tools, lease) -> None:
        writer = OutcomeWriter(interrupted(tools, self.AWAY, redis.TimeoutError("timed out")), lease)
        writer.add(0, GOOD)
        assert writer.write(left=2)
        assert [one.ordinal for one in client.job(lease.ref.job_id).results_so_far()] == [0]

    def test_a_write_whose_answer_was_lost_counts_no_item_twice(self, client, tools, lease) -> None:
        writer = OutcomeWriter(interrupted(tools, self.AWAY, after=True), lease)
        writer.add(0, GOOD)
        assert writer.write(left=2)
        job = client.job(lease.ref.job_id)
        assert [one.ordinal for one in job.results_so_far()] == [0]
        assert job.progress().done == 1

    def test_postponing_is_repeated_as_well(self, client, tools, lease) -> None:
        OutcomeWriter(interrupted(tools, self.AWAY), lease).postpone(60.0)
        seconds, _ = client.connection.redis.time()
        due_ms = -client.connection.redis.zscore(f"prelabel:{{{lease.ref.job_id}}}:open", lease.ref.chunk)
        assert 50_000 < due_ms - seconds * 1000 < 70_000
        assert not isinstance(tools.ledger.claim(lease.ref), Lease), "it waits for its time"

    def test_a_worker_that_stops_waits_no_longer(self, tools, lease) -> None:
        away = interrupted(tools, *[self.AWAY] * 3)
        away.ledger.before_each = away.stopping.set
        writer = OutcomeWriter(away, lease)
        writer.add(0, GOOD)
        with pytest.raises(redis.ConnectionError):
            writer.write(left=2)

    def test_a_write_that_redis_refuses_is_not_repeated(self, tools, lease) -> None:
        refused = redis.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
        writer = OutcomeWriter(interrupted(tools, refused), lease)
        writer.add(0, GOOD)
        with pytest.raises(redis.ResponseError):
            writer.write(left=2)


def test_only_what_was_written_now_is_counted(tools, lease) -> None:
    def answered() -> float:
        return metrics.REGISTRY.get_sample_value("prelabel_items_total", {"outcome": "answered"})

    before = answered()
    for _ in range(2):  # as after a lost answer
        writer = OutcomeWriter(tools, lease)
        writer.add(0, GOOD)
        writer.write(left=2)
    assert answered() - before == 1
