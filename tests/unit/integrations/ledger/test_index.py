"""The index of jobs: read in pages, freed of what has expired, and in few round trips."""

from __future__ import annotations

import pytest
import redis.connection

from prelabel.integrations.http.page.view import read_page
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.integrations.ledger import index as job_index
from prelabel.integrations.ledger.keys import JOBS, JobKeys
from prelabel.integrations.ledger.leases import ChunkRef, Ledger
from prelabel.schemas import ItemFailure, Outcome, PushTarget, Taxonomy
from prelabel.worker.chunks.sweeper import Sweeper

TAXONOMY = Taxonomy.flat(["cat"])


def submit(client, count: int, **options) -> list[str]:
    """Ids of jobs, the newest first."""
    return [client.submit([f"s3://b/{i}"], TAXONOMY, **options).id for i in range(count)][::-1]


def expired(client, count: int, at: float = 1.0) -> None:
    """Ids in the index whose jobs are gone."""
    client.connection.redis.zadd(JOBS, {f"gone{at:.0f}-{i}": at for i in range(count)})


def known(client) -> list[str]:
    return [raw.decode() for raw in client.connection.redis.zrevrange(JOBS, 0, -1)]


@pytest.fixture
def ledger(client) -> Ledger:
    return Ledger(client.connection.redis, owner="w", lease_s=30, ttl_s=100)


@pytest.fixture
def trips(monkeypatch) -> list[int]:
    """Bytes of each request to Redis; a pipeline is one."""
    made: list[int] = []
    send = redis.connection.AbstractConnection.send_packed_command

    def counted(self, command, *args, **options):
        made.append(sum(map(len, command)) if isinstance(command, list) else len(command))
        return send(self, command, *args, **options)

    monkeypatch.setattr(redis.connection.AbstractConnection, "send_packed_command", counted)
    return made


def test_jobs_of_the_very_same_moment_are_on_one_page_or_the_next(client) -> None:
    client.connection.redis.zadd(JOBS, {f"j{i}": 7.0 for i in range(5)} | {"new": 8.0, "old": 6.0})
    seen, place = [], job_index.NEWEST
    for _ in range(10):
        page, place = job_index.page(client.connection.redis, place, 2)
        seen += page
    assert (seen[0], seen[-1]) == ("new", "old")
    assert sorted(seen) == sorted(["new", "old", *(f"j{i}" for i in range(5))])


def test_jobs_looks_past_what_has_expired(client) -> None:
    old = submit(client, 3)
    expired(client, 500, at=2e10)
    new = submit(client, 2)
    client.connection.redis.zadd(JOBS, {new[0]: 4e10, new[1]: 3e10})
    assert [progress.job_id for progress in client.jobs(4)] == [*new, *old[:2]]
    assert known(client) == [*new, *old], "and forgets it"


def test_one_reading_of_thirty_jobs_takes_four_round_trips_however_many_there_were(client, trips) -> None:
    submit(client, 30)
    expired(client, 20_000)
    client.jobs(30)  # connects
    before = client.connection.redis.info("stats")["total_net_output_bytes"]
    trips.clear()
    assert len(client.jobs(30)) == 30
    assert len(trips) == 4, "ids, jobs, and for those that wait the clock and the workers"
    assert client.connection.redis.info("stats")["total_net_output_bytes"] - before < 60_000, "not the whole index"


def test_the_page_takes_no_more_round_trips_for_thirty_jobs_than_for_three(client, trips) -> None:
    projects = Projects(client)
    push = PushTarget(project=1, label_config="<View/>")

    def read() -> tuple[int, int]:
        read_page(client, projects)
        trips.clear()
        view = read_page(client, projects)
        assert not view.problem
        assert [shown.number for shown in view.projects] == [1]
        return len(view.active), len(trips)

    submit(client, 3, push=push)
    shown, few = read()
    assert shown == 3
    submit(client, 27, push=push)
    assert read() == (30, few)


def test_sweeps_forget_expired_jobs_nobody_lists_some_at_a_time(client, ledger, monkeypatch) -> None:
    monkeypatch.setattr(job_index, "FORGET_AT_ONCE", 100)
    kept = submit(client, 2)
    expired(client, 1000)
    sweeper = Sweeper(
        ledger,
        client.connection.store,
        client.connection.redis,
        lambda ref, queue: None,
        lambda job_id: None,
        owner="s",
        every_s=0.5,
        lease_s=3.0,
    )
    lengths = []
    for _ in range(1000):
        sweeper.sweep()
        lengths.append(client.connection.redis.zcard(JOBS))
        if lengths[-1] == 2:
            break
    assert known(client) == kept
    assert max(before - after for before, after in zip([1002, *lengths], lengths, strict=False)) < 500, "a bounded step"


def test_a_job_of_another_release_is_not_listed_and_not_forgotten(client) -> None:
    foreign, mine = submit(client, 2)
    client.connection.redis.hset(JobKeys(foreign).meta, "spec", '{"wire_version": 2}')
    assert [progress.job_id for progress in client.jobs()] == [mine]
    assert foreign in known(client)


def test_the_page_shows_why_items_failed(client, ledger) -> None:
    (job_id,) = submit(client, 1)
    outcome = Outcome(error=ItemFailure(kind="ItemError", message="no such file"))
    ledger.complete(ledger.claim(ChunkRef(job_id, 0)), [(0, outcome)], close=True)
    (job,) = read_page(client, Projects(client)).ended
    assert [failure.reason for failure in job.failures] == ["no such file"]
