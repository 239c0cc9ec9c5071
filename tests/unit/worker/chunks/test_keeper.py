"""Leases are kept and the worker is seen, each whatever becomes of the other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from prelabel.integrations import Client
from prelabel.integrations.ledger.fleet import Fleet
from prelabel.integrations.ledger.keys import WORKERS
from prelabel.integrations.ledger.leases import ChunkRef
from prelabel.schemas import Taxonomy, WorkerInfo
from prelabel.worker.chunks.keeper import LeaseKeeper
from tests.conftest import eventually

INFO = WorkerInfo(name="a", model="m@1", device="cpu", dtype="float32")


@contextmanager
def keeping(keeper: LeaseKeeper) -> Iterator[None]:
    keeper.start()
    try:
        yield
    finally:
        keeper.stop()


def test_a_held_lease_outlives_its_time_and_a_lost_one_is_told(client: Client, ledger) -> None:
    held, lost = (client.submit(["1.jpg"], Taxonomy.flat(["x"])) for _ in range(2))
    mine = ledger("a", lease_s=0.6)
    keeper = LeaseKeeper(mine, Fleet(client.connection.redis), INFO, lease_s=0.6)
    here, there = (mine.claim(ChunkRef(job.id, 0)) for job in (held, lost))
    with keeping(keeper), keeper.hold(here), keeper.hold(there) as gone:
        lost.cancel()
        assert gone.wait(20)
        before = client.connection.redis.zscore(f"prelabel:{{{held.id}}}:open", 0)
        assert eventually(lambda: client.connection.redis.zscore(f"prelabel:{{{held.id}}}:open", 0) > before)


def test_leases_are_renewed_while_no_heartbeat_can_be_sent(client: Client, ledger) -> None:
    job = client.submit(["1.jpg"], Taxonomy.flat(["x"]))
    client.connection.redis.set(WORKERS, "no sorted set")  # every heartbeat is refused
    mine = ledger("a", lease_s=0.6)
    keeper = LeaseKeeper(mine, Fleet(client.connection.redis), INFO, lease_s=0.6)
    with keeping(keeper), keeper.hold(mine.claim(ChunkRef(job.id, 0))) as lost:
        before = client.connection.redis.zscore(f"prelabel:{{{job.id}}}:open", 0)
        assert eventually(lambda: client.connection.redis.zscore(f"prelabel:{{{job.id}}}:open", 0) > before)
        assert not lost.is_set()


def test_the_worker_is_seen_from_its_first_beat_until_it_signs_off(client: Client, ledger) -> None:
    keeper = LeaseKeeper(ledger("a"), Fleet(client.connection.redis), INFO, lease_s=30)
    with keeping(keeper):
        assert eventually(lambda: [worker.name for worker in client.workers()] == ["a"])
    assert client.workers() == []


def test_each_beat_looks_whether_the_worker_is_beyond_help(client: Client, ledger) -> None:
    looked = threading.Event()
    with keeping(LeaseKeeper(ledger("a"), Fleet(client.connection.redis), INFO, lease_s=30, watch=looked.set)):
        assert looked.wait(20)


@pytest.mark.parametrize("error", [redis.ConnectionError("away"), RuntimeError("odd")])
def test_nothing_ends_its_thread(client: Client, ledger, monkeypatch, error: Exception) -> None:
    fleet = Fleet(client.connection.redis)
    keeper = LeaseKeeper(ledger("a"), fleet, INFO, lease_s=0.6)
    failed = iter([error, error])

    def beat(_: WorkerInfo) -> None:
        if problem := next(failed, None):
            raise problem
        again.set()

    again = threading.Event()
    monkeypatch.setattr(fleet, "beat", beat)
    with keeping(keeper):
        assert again.wait(20)
