"""Messages that are lost or come twice: they are only hints, the ledger is the truth."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from prelabel.integrations import Job
from prelabel.schemas.queues import QUEUE_BULK
from tests.faults.conftest import World
from tests.faults.report import Report
from tests.faults.site import Site, wait_for


def die_in_the_pop_window(world: World, site: Site, report: Report) -> None:
    """Kill a worker after Redis has given it a message and before it has booked the message as taken."""
    with world.proxy.stalled_booking(60) as port:
        victim = next(worker for worker in site.workers if worker.has(port))
        site.kill_holder(victim, report)


def test_kill_9_between_brpop_and_the_booking(world: World, site: Site, report: Report) -> None:
    for _ in range(site.rounds(2, 4000)):
        site.ready()
        job, work = site.submit(site.truth.work(min(site.items, 200), site.rng), lasts_s=2)
        die_in_the_pop_window(world, site, report)
        site.finish(job, work, report)
    report.assert_clean()


@pytest.mark.usefixtures("long_run")
def test_control_the_pop_window(world: World, site: Site, control: Callable[[str], Report]) -> None:
    report = control("no overdue messages")
    site.switch("no-overdue")
    job, work = site.submit(site.truth.work(100, site.rng), lasts_s=2)
    die_in_the_pop_window(world, site, report)
    wait_until_idle(site, job)
    site.finish(job, work, report, timeout_s=4)
    assert report.lost > 0


def wait_until_idle(site: Site, job: Job) -> None:
    """Until the job has ended, or nobody works on it and no message says that somebody should."""
    with suppress(AssertionError):
        wait_for(lambda: site.ended(job) or not (site.busy() or site.redis.llen(QUEUE_BULK)), 60)


def flush_queues(site: Site, report: Report) -> None:
    """Lose whatever the broker keeps: queues, messages taken, bindings; nothing of the ledger."""
    keys = [key for key in site.redis.scan_iter(count=1000) if not key.startswith("prelabel:")]
    assert QUEUE_BULK in keys
    site.redis.delete(*keys)
    report.faults += 1


def test_the_broker_loses_everything_but_not_the_ledger(site: Site, report: Report) -> None:
    job, work = site.submit(lasts_s=4)
    site.wait_started(job)
    for _ in range(site.rounds(1, 5000)):
        site.wait_point(0, 0.5)
        if site.redis.exists(QUEUE_BULK):
            flush_queues(site, report)
            site.resumed(job, report)
    site.finish(job, work, report)
    site.lanes_work()
    report.assert_clean()


def test_control_the_broker_loses_everything(site: Site, control: Callable[[str], Report]) -> None:
    report = control("no overdue messages")
    site.switch("no-overdue")
    job, work = site.submit(site.truth.work(200, site.rng), lasts_s=2)
    flush_queues(site, report)
    wait_until_idle(site, job)
    site.finish(job, work, report, timeout_s=3)
    assert report.lost > 0


def deliver_twice(site: Site, report: Report, count: int) -> None:
    """Put a copy of each waiting message on its queue, twice; and all of them again when the job has ended."""
    job, work = site.submit(site.truth.work(count, site.rng), lasts_s=2)
    messages = site.redis.lrange(QUEUE_BULK, 0, -1)
    assert messages
    site.redis.lpush(QUEUE_BULK, *messages, *messages)
    report.faults += 2 * len(messages)
    site.settle(job)
    site.redis.lpush(QUEUE_BULK, *messages)
    for chunk in range(int(site.redis.hget(f"prelabel:{{{job.id}}}:meta", "next_chunk"))):
        site.client.connection.sender.score_chunk(job.id, chunk, QUEUE_BULK)
        report.faults += 1
    report.faults += len(messages)
    wait_until_idle(site, job)
    after, _ = site.submit(site.truth.work(8, site.rng))  # first in, first out: all copies were taken before these
    site.settle(after)
    wait_for(lambda: not site.busy(), 60)
    site.finish(job, work, report)


def test_every_message_comes_three_times(site: Site, report: Report) -> None:
    deliver_twice(site, report, site.items)
    report.assert_clean()


def test_control_every_message_comes_three_times(site: Site, control: Callable[[str], Report]) -> None:
    report = control("nothing is refused, no finished bit")
    site.switch("no-refusal", "no-fence")
    deliver_twice(site, report, 100)
    assert report.doubled > 0
