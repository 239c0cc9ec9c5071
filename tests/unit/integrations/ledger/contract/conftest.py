"""The two ledgers every test here runs over: the one on a real Redis-compatible server, and the one in memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Protocol

import pytest

from prelabel.integrations import Client
from prelabel.integrations.broker.connection import connect_redis
from prelabel.integrations.ledger.fleet import Fleet
from prelabel.integrations.ledger.keys import JobKeys
from prelabel.integrations.ledger.leases import Ledger
from prelabel.integrations.ledger.memory.leases import MemoryLedger
from prelabel.integrations.ledger.memory.push_hints import MemoryPushHints
from prelabel.integrations.ledger.memory.pushes import MemoryPushes
from prelabel.integrations.ledger.memory.state import MemoryState
from prelabel.integrations.ledger.protocol import Leases, PushMarks, PushOutcomes
from prelabel.integrations.ledger.push_hints import PushHints
from prelabel.integrations.ledger.pushes import Pushes
from prelabel.integrations.testing.connection import MemoryConnection
from prelabel.schemas import Settings, WorkerInfo
from prelabel.worker.model.colour import colour_card


class Kept(Protocol):
    """Where a ledger is kept, and what may happen there."""

    client: Client

    def ledger(self, owner: str, lease_s: float, ttl_s: int) -> Leases:
        """A worker's half."""

    def push_hints(self) -> PushMarks:
        """The marks of pushes, as a worker has them."""

    def pushes(self) -> PushOutcomes:
        """What a worker writes of its pushes."""

    def pass_time(self, seconds: float) -> None:
        """Let so much time pass on the ledger's clock."""

    def take_messages(self, queue: str, count: int | None = None) -> None:
        """Take the oldest messages off a queue of chunks, and do nothing with them."""

    def open_chunks(self, job_id: str) -> list[int]:
        """The job's chunks that are not closed."""

    def show_worker(self, model: str, *, is_earlier: bool = False) -> None:
        """Have a worker that serves a model be alive."""


class InRedis:
    def __init__(self, settings: Settings) -> None:
        self.client = Client(settings)
        self._settings = settings
        self._redis = self.client.connection.redis
        self._redis.flushall()

    def ledger(self, owner, lease_s, ttl_s):
        return Ledger(connect_redis(self._settings), owner=owner, lease_s=lease_s, ttl_s=ttl_s)

    def push_hints(self):
        return PushHints(connect_redis(self._settings))

    def pushes(self):
        return Pushes(connect_redis(self._settings), ttl_s=100)

    def pass_time(self, seconds):
        time.sleep(seconds)  # the server's own clock, which nobody can set

    def take_messages(self, queue, count=None):
        self._redis.rpop(queue, count or 1_000_000)

    def open_chunks(self, job_id):
        return [int(chunk) for chunk in self._redis.zrange(JobKeys(job_id).open, 0, -1)]

    def show_worker(self, model, *, is_earlier=False):
        Fleet(self._redis).beat(_worker(model, is_earlier))

    def close(self):
        self._redis.flushall()
        self.client.close()


class InMemory:
    def __init__(self) -> None:
        self._now = 1e9
        self._state = MemoryState(lambda: self._now)
        self.client = Client(connection=MemoryConnection(self._state))

    def ledger(self, owner, lease_s, ttl_s):
        return MemoryLedger(self._state, owner=owner, lease_s=lease_s, ttl_s=ttl_s)

    def push_hints(self):
        return MemoryPushHints(self._state)

    def pushes(self):
        return MemoryPushes(self._state)

    def pass_time(self, seconds):
        self._now += seconds

    def take_messages(self, queue, count=None):
        messages = self._state.chunk_messages[queue]
        for _ in range(count or len(messages)):
            messages.popleft()

    def open_chunks(self, job_id):
        return list(self._state.job(job_id).open)

    def show_worker(self, model, *, is_earlier=False):
        self._state.workers.append(_worker(model, is_earlier))

    def close(self):
        self.client.close()


def _worker(model: str, is_earlier: bool) -> WorkerInfo:
    card = None if is_earlier else colour_card(model)
    return WorkerInfo(name=f"of {model}", model=model, device="cpu", dtype="float32", card=card)


@pytest.fixture(params=["redis", "memory"])
def kept(request) -> Iterator[Kept]:
    made = InMemory() if request.param == "memory" else InRedis(request.getfixturevalue("settings"))
    yield made
    made.close()


@pytest.fixture
def client(kept: Kept) -> Client:
    """A client of a ledger that holds nothing."""
    return kept.client


@pytest.fixture
def ledger(kept: Kept):
    """Makes ledgers of workers by name."""

    def make(owner: str = "a", lease_s: float = 30.0, ttl_s: int = 100) -> Leases:
        return kept.ledger(owner, lease_s, ttl_s)

    return make


@pytest.fixture
def pushes(kept: Kept) -> PushOutcomes:
    """What a worker writes of its pushes."""
    return kept.pushes()
