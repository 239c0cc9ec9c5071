"""Pushing a job's predictions: each once, in whatever order and however often it is asked for."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from prelabel.integrations.broker.connection import connect_redis
from prelabel.integrations.ledger.keys import PUSH_PENDING, JobKeys
from prelabel.integrations.ledger.leases import Answered, ChunkRef, Ledger
from prelabel.integrations.platforms import PushReport
from prelabel.schemas import Answer, ConfigError, ItemFailure, Outcome, Prediction, PushTarget, Taxonomy, TransientError
from prelabel.worker.delivering import pusher as pushing
from prelabel.worker.delivering.pusher import JobPusher
from tests.answering import record_of

GOOD = Outcome(model_version="m", answers=(Answer(control="c", rule="softmax", paths=(("cat",),), confidence=0.9),))
BAD = Outcome(error=ItemFailure(kind="ItemError", message="empty file"))


class Platform:
    """Remembers what it is sent; fails as told; like Label Studio it would store duplicates."""

    def __init__(self) -> None:
        self.stored: list[int] = []
        self.errors: list[Exception] = []
        self.refuses: set[int] = set()
        self.sent: list[int] = []

    def push(
        self, target: PushTarget, predictions: Sequence[Prediction], *, check_existing: bool = False, who: str = ""
    ) -> PushReport:
        if self.errors:
            raise self.errors.pop(0)
        wanted = [p.ordinal for p in predictions]
        self.sent.append(len(wanted))
        known = [o for o in wanted if check_existing and o in self.stored]
        refused = [o for o in wanted if o in self.refuses]
        pushed = [o for o in wanted if o not in known and o not in refused]
        self.stored += pushed
        return PushReport(
            pushed=tuple(pushed), rejected=tuple((o, "unknown choice") for o in refused), skipped=tuple(known)
        )


@pytest.fixture
def platform() -> Platform:
    return Platform()


@pytest.fixture
def pusher(client, settings, platform) -> JobPusher:
    return JobPusher(
        client.connection.store, connect_redis(settings), settings, lambda _: platform, wait=lambda _: False
    )


@pytest.fixture
def finish(client, settings):
    """Submit a job of `count` items and give it outcomes."""

    def make(count: int = 3, outcomes=None, hold: bool = False, close: bool = True, push: PushTarget | None = None):
        push = push or PushTarget(project=1, label_config="<View/>", hold=hold)
        job = client.submit([f"s3://b/{i}" for i in range(count)], Taxonomy.flat(["cat"]), push=push)
        ledger = Ledger(connect_redis(settings), owner="a", lease_s=30, ttl_s=100)
        lease = ledger.claim(ChunkRef(job.id, 0))
        ledger.complete(lease, list(enumerate(outcomes or [GOOD] * count)), close=close)
        return job

    return make


@pytest.fixture
def finish_600(client, settings):
    """Submit a job of 600 items, more than the ledger reads at once, and give it outcomes."""

    def make():
        push = PushTarget(project=1, label_config="<View/>")
        job = client.submit((f"s3://b/{i}" for i in range(600)), Taxonomy.flat(["cat"]), push=push)
        ledger = Ledger(connect_redis(settings), owner="a", lease_s=30, ttl_s=100)
        for chunk in range(10):
            lease = ledger.claim(ChunkRef(job.id, chunk))
            ledger.complete(lease, [(ordinal, GOOD) for ordinal, _ in lease.pairs], close=True)
        return job

    return make


def pending(client) -> set[bytes]:
    return client.connection.redis.smembers(PUSH_PENDING)


def test_answers_are_pushed_once_and_failed_items_never(client, pusher, platform, finish) -> None:
    job = finish(outcomes=[GOOD, BAD, GOOD])
    for _ in range(3):
        pusher.push(job.id)
    assert platform.stored == [0, 2]
    assert job.progress().pushed == 2
    assert pending(client) == set()


def test_a_platform_that_is_down_is_tried_again(client, pusher, platform, finish) -> None:
    job = finish()
    platform.errors = [TransientError("503"), TransientError("no route")]
    pusher.push(job.id)
    assert platform.stored == [0, 1, 2]


def test_a_platform_that_stays_down_leaves_the_job_for_the_sweeper(client, pusher, platform, finish) -> None:
    job = finish()
    platform.errors = [TransientError("503")] * 8
    pusher.push(job.id)
    assert platform.stored == []
    assert pending(client) == {job.id.encode()}
    pusher.push(job.id)
    assert platform.stored == [0, 1, 2]


def test_a_job_of_another_release_is_left_to_that(client, pusher, platform, finish) -> None:
    job = finish()
    client.connection.redis.hset(f"prelabel:{{{job.id}}}:meta", "spec", '{"wire_version": 2}')
    pusher.push(job.id)
    assert platform.stored == []
    assert pending(client) == {job.id.encode()}


def test_a_job_that_has_expired_is_forgotten(client, pusher, finish) -> None:
    job = finish()
    client.connection.redis.delete(f"prelabel:{{{job.id}}}:meta")
    pusher.push(job.id)
    assert pending(client) == set()


def test_a_refused_key_is_written_down_and_nothing_is_lost(client, pusher, platform, finish) -> None:
    job = finish()
    platform.errors = [ConfigError("Label Studio refuses the API key")]
    pusher.push(job.id)
    assert b"refuses the API key" in client.connection.redis.hget(f"prelabel:{{{job.id}}}:meta", "push_error")
    pusher.push(job.id)
    assert platform.stored == [0, 1, 2]
    assert client.connection.redis.hget(f"prelabel:{{{job.id}}}:meta", "push_error") is None


def test_a_platform_this_worker_has_not_is_written_down_and_nothing_is_lost(client, settings, platform, finish) -> None:
    def lacking(name: str) -> Platform:
        raise ConfigError(f"no package brings {name}")

    job, store, redis = finish(), client.connection.store, client.connection.redis
    JobPusher(store, redis, settings, lacking).push(job.id)
    assert redis.hget(JobKeys(job.id).meta, "push_error") == b"no package brings label_studio"
    assert pending(client) == {job.id.encode()}
    JobPusher(store, redis, settings, lambda _: platform).push(job.id)
    assert platform.stored == [0, 1, 2]


def test_the_job_says_which_platform_is_pushed_to(client, settings, platform, finish) -> None:
    asked: list[str] = []

    def platforms(name: str) -> Platform:
        asked.append(name)
        return platform

    job = finish(push=PushTarget(platform="table", project=1))
    JobPusher(client.connection.store, client.connection.redis, settings, platforms).push(job.id)
    assert (asked, platform.stored) == (["table"], [0, 1, 2])


def test_a_refused_prediction_is_kept_with_its_reason_and_the_others_go_through(
    client, pusher, platform, finish
) -> None:
    job = finish()
    platform.refuses = {1}
    pusher.push(job.id)
    assert platform.stored == [0, 2]
    assert client.connection.redis.hgetall(f"prelabel:{{{job.id}}}:push_failed") == {b"1": b"unknown choice"}


def warnings(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_what_a_push_refuses_is_one_line_of_the_log_with_the_count_and_the_first_reason(
    client, pusher, platform, finish, caplog
) -> None:
    platform.refuses = {1, 2}
    job = finish()
    pusher.push(job.id)
    (line,) = warnings(caplog)
    assert f"2 predictions of job {job.id}" in line
    assert "item s3://b/1: unknown choice" in line


def test_the_first_push_is_small_and_all_else_that_is_ready_goes_in_one(pusher, platform, finish_600) -> None:
    pusher.push(finish_600().id)
    assert platform.sent == [256, 344]


@pytest.mark.parametrize(("name", "scores"), [("label_studio", 0), ("another", 2)])
def test_scores_go_to_platforms_that_may_have_a_place_for_them(
    client, settings, pusher, platform, name, scores
) -> None:
    push = PushTarget(project=1, label_config="<View/>", platform=name)
    taxonomy = Taxonomy.flat(["cat", "dog"])
    job = client.submit(["s3://b/0", "s3://b/1"], taxonomy, push=push)
    ledger = Ledger(connect_redis(settings), owner="a", lease_s=30, ttl_s=100)
    answered = [Answered([0, 1], record_of(taxonomy, ["dog", "cat"]))]
    ledger.complete(ledger.claim(ChunkRef(job.id, 0)), [], close=True, answered=answered)
    sent: list[Prediction] = []
    send = platform.push
    platform.push = lambda target, predictions, **how: (sent.extend(predictions), send(target, predictions, **how))[1]
    pusher.push(job.id)
    assert [one.label for one in sent] == ["dog", "cat"]
    assert [len(one.scores) for one in sent] == [scores, scores]


def test_a_push_of_many_batches_says_once_what_was_refused(pusher, platform, caplog, monkeypatch, finish_600) -> None:
    monkeypatch.setattr(pushing, "_AT_ONCE", 100)
    platform.refuses = set(range(600))
    pusher.push(finish_600().id)
    assert len(platform.sent) > 1
    (line,) = warnings(caplog)
    assert "600 predictions" in line


def test_what_was_refused_before_is_not_told_again(client, pusher, platform, finish, caplog) -> None:
    job = finish()
    platform.refuses = {0}
    for _ in range(2):
        pusher.push(job.id)
    assert len(warnings(caplog)) == 1


def test_a_pusher_that_died_before_it_marked_its_batch_doubles_nothing(client, pusher, platform, finish) -> None:
    job = finish()
    platform.stored = [0, 1]  # sent by somebody who died before the ledger knew
    pusher.push(job.id)
    assert sorted(platform.stored) == [0, 1, 2]
    assert job.progress().pushed == 3


def test_a_held_job_is_pushed_only_after_its_submitter_let_go_and_without_what_they_delivered(
    client, pusher, platform, finish
) -> None:
    job = finish(hold=True)
    pusher.push(job.id)
    assert platform.stored == []
    job.release_push(delivered=[1])
    assert client.queues()["push"] == 1
    pusher.push(job.id)
    assert platform.stored == [0, 2]


def test_a_push_under_way_elsewhere_is_not_repeated_and_takes_our_request_along(
    client, pusher, platform, finish, settings
) -> None:
    job = finish()
    client.connection.redis.set(f"prelabel:{{{job.id}}}:push_lock", "somebody else", ex=60)
    pusher.push(job.id)
    assert platform.stored == []
    assert client.connection.redis.exists(f"prelabel:{{{job.id}}}:push_wanted")


def test_a_job_that_is_gone_is_forgotten(client, pusher, platform) -> None:
    client.connection.redis.sadd(PUSH_PENDING, "gone")
    pusher.push("gone")
    assert pending(client) == set()


class TestOtherRelease:
    """A job this release cannot read is left to the workers that can, and said once."""

    @staticmethod
    def told(caplog) -> list[str]:
        return [record.message for record in caplog.records if record.levelname == "WARNING"]

    def test_a_job_of_another_release_stays_pending(self, client, pusher, platform, finish, caplog) -> None:
        job = finish()
        client.connection.redis.hset(JobKeys(job.id).meta, "spec", '{"wire_version": 2}')
        for _ in range(3):
            pusher.push(job.id)
        assert pending(client) == {job.id.encode()}
        (said,) = self.told(caplog)
        assert job.id in said
        assert "wire version 2" in said

    def test_a_job_with_an_outcome_of_another_release_stays_pending(
        self, client, pusher, platform, finish, caplog
    ) -> None:
        job = finish(count=2, outcomes=[GOOD], close=False)
        client.connection.redis.xadd(JobKeys(job.id).results, {"o": 1, "c": 0, "r": b"\x02of tomorrow"})
        for _ in range(3):
            pusher.push(job.id)
        assert pending(client) == {job.id.encode()}
        assert len(self.told(caplog)) == 1

    def test_a_held_job_of_which_nobody_knows_since_when_stays_pending(self, client, pusher, finish, caplog) -> None:
        job = finish(hold=True)
        client.connection.redis.hset(JobKeys(job.id).meta, "created", "yesterday")
        for _ in range(3):
            pusher.push(job.id)
        assert pending(client) == {job.id.encode()}
        (said,) = self.told(caplog)
        assert job.id in said

    def test_a_job_that_expires_while_it_is_pushed_is_forgotten(
        self, client, pusher, platform, finish, monkeypatch
    ) -> None:
        job = finish()
        push = platform.push

        def last(*args, **options) -> PushReport:
            report = push(*args, **options)
            client.connection.redis.delete(*JobKeys(job.id).all())
            return report

        monkeypatch.setattr(platform, "push", last)
        pusher.push(job.id)
        pusher.push(job.id)
        assert pending(client) == set()


def test_a_platform_that_asks_to_be_left_alone_is_and_the_lock_is_kept(client, settings, platform, finish) -> None:
    waited: list[float] = []
    job = finish()

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        return False

    platform.errors = [TransientError("busy", retry_after_s=90)]
    JobPusher(client.connection.store, connect_redis(settings), settings, lambda _: platform, wait=wait).push(job.id)
    assert 90 <= sum(waited) <= 121
    assert max(waited) <= 30, "the lock is renewed meanwhile"
    assert job.progress().pushed == 3


def test_a_pusher_that_lost_its_lock_stops_and_leaves_the_others_alone(client, settings, platform, finish) -> None:
    job = finish()
    redis, lock = client.connection.redis, JobKeys(job.id).push_lock

    def wait(seconds: float) -> bool:
        redis.set(lock, "somebody else", px=5000)
        return False

    platform.errors = [TransientError("busy", retry_after_s=90)]
    JobPusher(client.connection.store, connect_redis(settings), settings, lambda _: platform, wait=wait).push(job.id)
    assert platform.stored == []
    assert redis.get(lock) == b"somebody else"
    assert redis.pttl(lock) <= 5000
    assert pending(client) == {job.id.encode()}


def test_a_lock_from_before_redis_clock_jumped_back_holds_no_push_up_for_an_hour(client, pusher, finish) -> None:
    job = finish()
    redis, lock = client.connection.redis, JobKeys(job.id).push_lock
    redis.set(lock, "somebody dead", ex=3600)
    pusher.push(job.id)
    assert redis.ttl(lock) <= 120


def test_the_lock_is_kept_while_the_platform_takes_its_time(client, settings, finish, monkeypatch) -> None:
    monkeypatch.setattr(pushing, "LOCK_S", 2)

    class Slow(Platform):
        def push(self, *args, **options) -> PushReport:
            time.sleep(3)
            other = JobPusher(
                client.connection.store, connect_redis(settings), settings, lambda _: fast, wait=lambda _: False
            )
            other.push(job.id)
            return super().push(*args, **options)

    slow, fast = Slow(), Platform()
    job = finish()
    JobPusher(client.connection.store, connect_redis(settings), settings, lambda _: slow, wait=lambda _: False).push(
        job.id
    )
    assert slow.stored == [0, 1, 2]
    assert fast.stored == [], "somebody else pushed the same"


def test_what_a_platform_says_nothing_of_stays_ready_and_is_said(client, settings, finish) -> None:
    class Forgetful(Platform):
        def push(self, target, predictions, *, check_existing=False, who=""):
            report = super().push(target, predictions, check_existing=check_existing, who=who)
            return PushReport(pushed=tuple(ordinal for ordinal in report.pushed if ordinal != 1))

    job, platform = finish(3), Forgetful()
    pusher = JobPusher(client.connection.store, connect_redis(settings), settings, lambda _: platform)
    pusher.push(job.id)
    redis = client.connection.redis
    assert job.progress().pushed == 2
    assert redis.hget(JobKeys(job.id).meta, "push_error") == b"the platform said nothing of 1 of 3 predictions"
    assert redis.sismember(PUSH_PENDING, job.id)
