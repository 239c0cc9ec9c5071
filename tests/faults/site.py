"""A site: two workers on one Redis database, jobs submitted to it, and looks into its ledger."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from unittest import mock

import redis

from prelabel.integrations import Client, Job
from prelabel.integrations.client import cutting as chunks
from prelabel.integrations.ledger.keys import SWEEPER, WATERMARKS, JobKeys, held_key
from prelabel.schemas import PrelabelError, PushTarget, Settings
from tests.faults.report import Report
from tests.faults.truth import CONTROLS, Truth, Work, compare
from tests.faults.workers import Worker

_T = TypeVar("_T")

LONG_RUN = 2000
"""Items in a job from which on there is time for longer faults, more workers and every control."""


class Held(NamedTuple):
    """A chunk a worker has leased, under this token."""

    job_id: str
    chunk: str
    token: str | None


@dataclass
class Site:
    """What a case works on.

    Attributes:
        settings: the workers'; their Redis is behind the proxy.
        client: submits, past the proxy.
        redis: looks into the ledger, past the proxy.
        switches: folder of the files the workers' hook looks at.
        truth: pictures with known answers.
        rng: chooses items and fault points.
        items: items in a job of normal size.
        workers: two.
    """

    settings: Settings
    client: Client
    redis: Any
    switches: Path
    truth: Truth
    rng: random.Random
    items: int
    workers: list[Worker]

    @property
    def long(self) -> bool:
        """Whether faults last as long, and come as often, as only a long run has time for."""
        return self.items >= LONG_RUN

    def rounds(self, few: int, every: int) -> int:
        """How often to do something: `few` times, and once more for each `every` items."""
        return few + self.items // every

    def submit(
        self,
        work: Work | None = None,
        *,
        lasts_s: float = 0.0,
        push: PushTarget | None = None,
    ) -> tuple[Job, Work]:
        """Submit a job (by default of good pictures) in at least some 25 chunks.

        Args:
            work: its items.
            lasts_s: slow the workers down so that both together take this long at least.
            push: where the answers go.
        """
        work = work or self.truth.work(self.items, self.rng)
        count = len(work.items)
        (self.switches / "pace").write_text(str(lasts_s * len(self.workers) / count))
        with mock.patch.object(chunks, "CHUNK_ITEMS", max(4, min(64, count // 25))):
            return self.client.submit(work.items, CONTROLS, push=push, top_k=3), work

    def switch(self, *names: str, on: bool = True) -> None:
        """Turn guards of the workers off, or faults in them on; `on=False` turns them back."""
        for name in names:
            if on:
                (self.switches / name).touch()
            else:
                (self.switches / name).unlink(missing_ok=True)

    def ended(self, job: Job) -> bool:
        """Whether the job has ended; False while Redis does not say."""
        try:
            return job.progress().state.ended
        except PrelabelError:
            return False

    def settle(self, job: Job, timeout_s: float | None = None) -> bool:
        """Wait until the job has ended. Returns False when it has not in time."""
        deadline = time.monotonic() + (timeout_s or 60 + self.items / 20)
        while not self.ended(job):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def finish(self, job: Job, work: Work, report: Report, timeout_s: float | None = None) -> None:
        """Wait for the job's end and compare item by item."""
        if not self.settle(job, timeout_s):
            report.note(f"the job did not end: {job.progress()}")
        compare(self.redis, job.id, work.right, report)

    def done(self, job: Job) -> int:
        """Outcomes there are."""
        return int(self.redis.xlen(JobKeys(job.id).results))

    def wait_started(self, job: Job) -> None:
        """Until the first outcome."""
        wait_for(lambda: self.done(job), 60)

    def wait_point(self, low_s: float, high_s: float) -> None:
        """A random point in time."""
        time.sleep(self.rng.uniform(low_s, high_s))

    def resumed(self, job: Job, report: Report) -> None:
        """The fault has just ended: how long until the next new outcome?"""
        ended_at, before = time.monotonic(), None
        while time.monotonic() - ended_at < 60:
            try:
                if before is None:
                    before = self.done(job)
                elif self.done(job) > before:
                    report.recoveries.append(time.monotonic() - ended_at)
                    return
                if self.ended(job):
                    return
            except redis.RedisError:
                pass
            time.sleep(0.02)
        report.recoveries.append(math.inf)

    def held(self, worker: Worker) -> list[Held]:
        """The chunks a worker has leased."""
        name = worker.name()
        members = self.redis.smembers(held_key(name)) if name else ()
        found = []
        for member in members:
            job_id, _, chunk = member.partition("/")
            token = self._token(job_id, chunk)
            if token is not None:
                found.append(Held(job_id, chunk, token))
        return found

    def _token(self, job_id: str, chunk: str) -> str | None:
        """The chunk's fencing token; None when the chunk is closed."""
        keys = JobKeys(job_id)
        if self.redis.zscore(keys.open, chunk) is None:
            return None
        token: str | None = self.redis.hget(keys.leases, f"token:{chunk}")
        return token

    def still_with(self, held: list[Held]) -> list[Held]:
        """Those of these leases that nobody has ended."""
        return [one for one in held if self._token(one.job_id, one.chunk) == one.token]

    def still_open(self, held: list[Held]) -> list[Held]:
        """Those of these chunks that are not complete."""
        return [one for one in held if self._token(one.job_id, one.chunk) is not None]

    def busy(self) -> Worker | None:
        """A random worker that is alive and holds a lease, if there is one."""
        found = [worker for worker in self.workers if self.held(worker)]
        return self.rng.choice(found) if found else None

    def someone_busy(self) -> Worker:
        """The same, as soon as there is one."""
        return wait_for(self.busy, 60)

    def kill_holder(self, victim: Worker, report: Report, kill: Callable[[], None] | None = None) -> None:
        """Kill a worker; note when each chunk it held is free again or with somebody else."""
        held = self.held(victim)
        (kill or victim.kill)()
        killed_at = time.monotonic()
        report.faults += 1
        left = self.still_with(held)  # what it finished in its last moment is no loss
        while left and time.monotonic() - killed_at < 45:
            still = self.still_with(left)
            report.recoveries += [time.monotonic() - killed_at] * (len(left) - len(still))
            left = still
            time.sleep(0.01)
        report.recoveries += [math.inf] * len(left)

    def lanes_work(self) -> None:
        """Fail unless the interactive lane consumes (again)."""
        urgent = self.client.submit(self.truth.work(1, self.rng).items, CONTROLS, priority="interactive")
        assert self.settle(urgent, 60), "the interactive lane is dead"

    def ready(self, count: int = 2) -> None:
        """So many workers up, and the others soon up again."""
        for worker in self.workers:
            if worker.tired:
                worker.stop()
                worker.start()
        wait_for(lambda: len({worker.name() for worker in self.workers} & self._heard_of()) >= count, 120)

    def _heard_of(self) -> set[str | None]:
        try:
            return {worker.name for worker in self.client.workers()}
        except PrelabelError:
            return set()

    def calm(self) -> None:
        """After a case, however it ended: no switch is on and no job is left."""
        for path in self.switches.iterdir():
            path.unlink()
        for job in self.client.jobs(1000):
            if not job.state.ended:
                self.client.job(job.job_id).cancel()
        self.redis.delete(*self.client.queues(), WATERMARKS, SWEEPER)  # as far as a clock has jumped there

    def close(self) -> None:
        """Stop the workers and drop the connections."""
        for worker in self.workers:
            worker.stop()
        self.client.connection.sender.close()
        self.client.connection.redis.close()
        self.redis.close()


def wait_for(condition: Callable[[], _T | None], timeout_s: float) -> _T:
    """The first truthy value of `condition()`."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s"
        time.sleep(0.03)
