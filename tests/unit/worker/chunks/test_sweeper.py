"""The sweeper on a real Redis-compatible server: what got lost is found, and a clock that jumps loses nothing."""

from __future__ import annotations

import time

import pytest

from prelabel.integrations.ledger.keys import MODEL_QUEUES, SWEEPER, JobKeys
from prelabel.integrations.ledger.leases import ChunkRef, Lease
from prelabel.schemas import Answer, JobState, Outcome, Taxonomy
from prelabel.worker.chunks.sweeper import Sweeper
from tests.conftest import eventually

TAXONOMY = Taxonomy.flat(["cat", "dog"])
GOOD = Outcome(model_version="m", answers=(Answer(control="label", rule="softmax", paths=(("cat",),), confidence=0.9),))
HOUR_MS = 3_600_000

# KEYS: open, watermarks. ARGV: ms. Redis's clock jumping ahead is every time on record moving back.
JUMP = """
for i, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local score = tonumber(redis.call('ZSCORE', KEYS[1], member))
  redis.call('ZADD', KEYS[1], score > 0 and score - ARGV[1] or score + ARGV[1], member)
end
for _, queue in ipairs(redis.call('HKEYS', KEYS[2])) do redis.call('HINCRBYFLOAT', KEYS[2], queue, -ARGV[1]) end
"""


def submit(client, count: int = 3, **options):
    job = client.submit([f"s3://b/{i}.jpg" for i in range(count)], TAXONOMY, **options)
    return job, ChunkRef(job.id, 0)


def jump(client, job, ms: int) -> None:
    client.connection.redis.eval(JUMP, 2, f"prelabel:{{{job.id}}}:open", "prelabel:watermarks", ms)


@pytest.fixture
def hints() -> list[ChunkRef]:
    return []


@pytest.fixture
def sweeper(client, ledger, hints) -> Sweeper:
    return Sweeper(
        ledger("s"),
        client.connection.store,
        client.connection.redis,
        lambda ref, _: hints.append(ref),
        lambda _: None,
        owner="s",
        every_s=0.5,
        lease_s=3.0,
    )


def test_a_lease_that_ran_out_is_given_out_again(client, ledger, sweeper, hints) -> None:
    _, ref = submit(client)
    ledger("dead", lease_s=1.0).claim(ref)
    sweeper.sweep()
    assert hints == []
    time.sleep(1.1)
    sweeper.sweep()
    assert hints == [ref]
    assert ledger("next").claim(ref, alone=True).deaths == 1


def test_a_chunk_whose_message_was_lost_is_sent_again(client, sweeper, hints) -> None:
    _, ref = submit(client)
    client.connection.redis.delete("bulk")
    sweeper.sweep()
    assert hints == []  # it may be on its way to a worker this very moment
    time.sleep(1.1)
    sweeper.sweep()
    assert hints == [ref]
    sweeper.sweep()
    assert hints == [ref]  # it counts as sent now


def test_the_message_of_a_job_that_names_a_model_is_sent_again_to_that_model_s_queue(client, ledger) -> None:
    _, ref = submit(client, model="a@1")
    client.connection.redis.delete("bulk:a@1")
    sent: list[tuple[ChunkRef, str]] = []
    redis, store = client.connection.redis, client.connection.store
    hint = lambda ref, queue: sent.append((ref, queue))  # noqa: E731
    sweeper = Sweeper(ledger("s"), store, redis, hint, lambda _: None, owner="s", every_s=0.5, lease_s=3.0)
    time.sleep(1.1)
    sweeper.sweep()
    assert sent == [(ref, "bulk:a@1")]


def test_a_model_s_queue_is_forgotten_when_no_job_is_on_it_any_more(client, sweeper) -> None:
    redis = client.connection.redis
    for model in ("gone@1", "waits@1"):
        job, _ = submit(client, model=model)
        redis.zincrby(MODEL_QUEUES, -100_000, f"bulk:{model}")
        if model == "gone@1":
            job.cancel()
    for _ in range(10):
        sweeper.sweep()
    assert list(client.queues()) == ["interactive", "bulk", "push", "bulk:waits@1"]


def test_a_lost_message_is_noticed_though_the_queue_never_runs_empty(client, ledger, sweeper, hints) -> None:
    _, lost = submit(client)
    client.connection.redis.delete("bulk")
    time.sleep(1.2)
    _, taken = submit(client)
    submit(client)
    sweeper.sweep()
    assert hints == []  # nothing says yet that younger messages overtook it
    ledger().claim(taken)
    sweeper.sweep()
    assert hints == [lost]


def test_what_is_leased_done_or_cancelled_is_left_alone(client, ledger, sweeper, hints) -> None:
    _, leased = submit(client)
    _, done = submit(client)
    cancelled, _ = submit(client)
    worker = ledger()
    worker.claim(leased)
    worker.complete(worker.claim(done), [(i, GOOD) for i in range(3)], close=True)
    cancelled.cancel()
    client.connection.redis.delete("bulk")
    time.sleep(1.1)
    sweeper.sweep()
    assert hints == []


def test_a_job_it_cannot_read_does_not_stop_the_sweep(client, sweeper, hints) -> None:
    odd, _ = submit(client)
    client.connection.redis.hset(f"prelabel:{{{odd.id}}}:meta", "spec", '{"wire_version": 2}')
    _, ref = submit(client)
    client.connection.redis.delete("bulk")
    time.sleep(1.1)
    sweeper.sweep()
    assert ref in hints


def test_a_submission_its_submitter_left_unfinished_is_cancelled(client, sweeper) -> None:
    job, _ = submit(client)
    redis = client.connection.redis
    redis.hdel(f"prelabel:{{{job.id}}}:meta", "sealed")
    sweeper.sweep()
    assert job.progress().state is not JobState.CANCELLED
    redis.hset(f"prelabel:{{{job.id}}}:meta", "touched", time.time() - 4000)
    sweeper.sweep()
    assert job.progress().state is JobState.CANCELLED


def test_a_job_past_its_deadline_is_cancelled_and_keeps_what_is_done(client, ledger, sweeper) -> None:
    job, ref = submit(client)
    worker = ledger()
    lease = worker.claim(ref)
    worker.complete(lease, [(0, GOOD)], close=False)
    redis = client.connection.redis
    redis.hset(f"prelabel:{{{job.id}}}:meta", "deadline", time.time() - 1)
    sweeper.sweep()
    assert not worker.renew(lease)
    assert redis.hget(f"prelabel:{{{job.id}}}:meta", "cancelled") == b"its deadline passed"
    assert [prediction.ordinal for prediction in job.results(5)] == [0]


@pytest.mark.parametrize("field", ["deadline", "touched"])
def test_a_time_of_a_job_that_is_no_number_does_not_stop_the_sweep(client, sweeper, hints, field) -> None:
    redis = client.connection.redis
    jobs = [submit(client)[0] for _ in range(5)]  # Redis gives them in whatever order
    odd, late = jobs[0], jobs[1:]
    for job in jobs:
        redis.hset(JobKeys(job.id).meta, "deadline", time.time() - 1)
    redis.hdel(JobKeys(odd.id).meta, "sealed", "deadline")
    redis.hset(JobKeys(odd.id).meta, field, "tomorrow")
    sweeper.sweep()
    assert [job.progress().state for job in late] == [JobState.CANCELLED] * 4
    assert redis.hget(JobKeys(odd.id).meta, "cancelled") is None


class TestLock:
    """One worker at a time sweeps."""

    @pytest.fixture
    def started(self, client, ledger):
        """Starts a sweeper that sends its hints to a function."""
        made = []

        def start(hint) -> Sweeper:
            sweeper = Sweeper(
                ledger("s"),
                client.connection.store,
                client.connection.redis,
                hint,
                lambda _: None,
                owner="s",
                every_s=0.2,
                lease_s=3.0,
            )
            made.append(sweeper)
            sweeper.start()
            return sweeper

        yield start
        for sweeper in made:
            sweeper.stop()

    def test_a_sweeper_that_lost_its_lock_stops_and_leaves_the_others_alone(self, client, started) -> None:
        redis, hints = client.connection.redis, []
        for _ in range(2):
            job, _ = submit(client)
            jump(client, job, 60_000)
        redis.delete("bulk")

        def hint(ref: ChunkRef, _: str) -> None:
            redis.set(SWEEPER, "another", px=60_000)
            hints.append(ref)

        sweeper = started(hint)
        eventually(lambda: hints)
        sweeper.stop()  # once it has ended
        assert len(hints) == 1
        assert redis.get(SWEEPER) == b"another"

    def test_a_lock_from_before_redis_clock_jumped_back_is_waited_for_no_longer_than_any_other(
        self, client, started
    ) -> None:
        redis, hints = client.connection.redis, []
        redis.set(SWEEPER, "somebody dead", px=HOUR_MS)
        job, ref = submit(client)
        jump(client, job, 60_000)
        redis.delete("bulk")
        started(lambda ref, _: hints.append(ref))
        eventually(lambda: hints)
        assert hints[0] == ref


class TestClock:
    def test_back_an_hour_a_dead_workers_lease_still_runs_out(self, client, ledger, sweeper, hints) -> None:
        job, ref = submit(client)
        ledger("dead", lease_s=1.0).claim(ref)
        jump(client, job, -HOUR_MS)
        sweeper.sweep()
        (deadline,) = client.connection.redis.zrange(f"prelabel:{{{job.id}}}:open", 0, -1, withscores=True)
        assert deadline[1] / 1000 - time.time() < 60  # brought near, not an hour away
        assert hints == []

    def test_back_an_hour_a_live_workers_lease_goes_on(self, client, ledger, sweeper, hints) -> None:
        job, ref = submit(client)
        worker = ledger("alive", lease_s=1.0)
        lease = worker.claim(ref)
        jump(client, job, -HOUR_MS)
        assert worker.renew(lease)
        sweeper.sweep()
        assert worker.complete(lease, [(i, GOOD) for i in range(3)], close=True).held

    def test_back_an_hour_no_storm_of_messages(self, client, ledger, sweeper, hints) -> None:
        first, taken = submit(client)
        second, _ = submit(client)
        ledger().claim(taken)
        jump(client, first, -HOUR_MS)
        jump(client, second, -HOUR_MS)
        submit(client)
        for _ in range(3):
            sweeper.sweep()
            time.sleep(0.6)
        assert hints == []  # their messages are on the queue all the time

    def test_back_an_hour_a_lost_message_is_still_found(self, client, sweeper, hints) -> None:
        job, ref = submit(client)
        client.connection.redis.delete("bulk")
        jump(client, job, -HOUR_MS)
        sweeper.sweep()
        time.sleep(1.1)
        sweeper.sweep()
        assert hints == [ref]

    def test_ahead_an_hour_a_renewed_lease_is_not_taken_for_dead(self, client, ledger, sweeper, hints) -> None:
        job, ref = submit(client)
        worker = ledger("alive")
        lease = worker.claim(ref)
        assert isinstance(lease, Lease)
        jump(client, job, HOUR_MS)
        sweeper.sweep(judge_leases=False)  # as in the moments after the jump
        assert worker.renew(lease)
        sweeper.sweep()
        assert hints == []
