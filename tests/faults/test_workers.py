"""Workers that die, freeze, and are replaced."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from prelabel.integrations import Job
from prelabel.integrations.ledger.keys import held_key
from prelabel.schemas.settings import load_settings
from tests.faults.conftest import World
from tests.faults.report import Report
from tests.faults.site import LONG_RUN, Site, wait_for

KILL_EVERY_S = 2.0


def kill_now_and_then(site: Site, job: Job, report: Report, kills: int) -> None:
    """Every two seconds, a worker that is alive and holds something."""
    site.wait_started(job)
    for _ in range(kills):
        started = time.monotonic()
        site.wait_point(0, 0.5)
        try:
            victim = wait_for(lambda: site.ended(job) or site.busy(), 60)
        except AssertionError:
            return  # nobody got anything any more; the comparison will say what that means
        if victim is True:
            return
        site.kill_holder(victim, report)
        time.sleep(max(0.0, started + KILL_EVERY_S - time.monotonic()))


@pytest.fixture
def default_lease(world: World, request: pytest.FixtureRequest) -> Iterator[Site]:
    """The shared site; in a long run one whose leases last as long as they do by default."""
    if world.items < LONG_RUN:
        yield request.getfixturevalue("site")
        return
    made = world.site("default-lease", 2, lease_s=load_settings().lease_s)
    try:
        made.ready()
        yield made
    finally:
        made.close()


def test_kill_9_of_a_supervised_worker_every_2_s(default_lease: Site, report: Report) -> None:
    site = default_lease
    site.ready()
    job, work = site.submit(lasts_s=4)
    kill_now_and_then(site, job, report, site.rounds(3, 2000))
    site.finish(job, work, report)
    report.assert_clean()
    report.assert_promise(supervised=True)


@pytest.mark.usefixtures("long_run")
def test_control_kill_9(site: Site, control: Callable[[str], Report]) -> None:
    report = control("nobody frees leases")
    site.ready()
    site.switch("no-freeing", "no-reaping")
    job, work = site.submit(site.truth.work(100, site.rng), lasts_s=3)
    site.wait_started(job)
    victim = site.someone_busy()
    victim.kill()
    report.faults += 1
    wait_for(lambda: site.settle(job, 0.1) or not site.busy(), 60)
    site.finish(job, work, report, timeout_s=site.settings.lease_s + 2)
    assert report.lost > 0


@pytest.fixture
def unsupervised(world: World, request: pytest.FixtureRequest) -> Iterator[Site]:
    """Bare Celery workers with leases as long as by default; in a short run `prelabel worker`s that free no leases."""
    if world.items < LONG_RUN:
        made = request.getfixturevalue("site")
        made.switch("no-freeing")
        yield made
        return
    made = world.site("bare", 1, supervised=False, lease_s=load_settings().lease_s)
    try:
        made.ready()
        yield made
    finally:
        made.close()


def test_kill_9_without_a_supervisor(unsupervised: Site, report: Report) -> None:
    site = unsupervised
    kills = site.rounds(1, 2500)
    site.ready()
    job, work = site.submit(lasts_s=20 * kills if site.long else 3)
    site.wait_started(job)
    for _ in range(kills):
        site.ready()  # one of two dies: with nobody left alive, recovery takes as long as a worker takes to start
        if site.ended(job):
            break
        victim = site.someone_busy()
        site.kill_holder(victim, report)
        if not victim.supervised:
            victim.start()
        site.wait_point(0, KILL_EVERY_S)
    site.finish(job, work, report)
    report.assert_clean()
    report.assert_promise(supervised=False)


def freeze(site: Site, report: Report, count: int) -> None:
    """Stop a worker until others have done all it held, then let it go on."""
    site.ready()
    job, work = site.submit(site.truth.work(count, site.rng), lasts_s=3)
    site.wait_started(job)
    while True:
        victim = site.someone_busy()
        victim.freeze()
        time.sleep(0.2)  # what it had sent is there now
        held = site.held(victim)
        if held:
            break
        victim.thaw()
    try:
        wait_for(lambda: not site.still_open(held), 60)
    finally:
        victim.thaw()
    report.faults += 1
    site.finish(job, work, report)
    time.sleep(2)  # time for the late one to do harm
    again = Report("")
    site.finish(job, work, again)
    report.doubled = again.doubled


def test_a_worker_frozen_past_its_leases_wins_nothing(site: Site, report: Report) -> None:
    for _ in range(site.rounds(1, 4000)):
        freeze(site, report, min(site.items, 1000))
    report.assert_clean()


def test_control_a_frozen_worker(site: Site, control: Callable[[str], Report]) -> None:
    report = control("no fencing, no finished bit")
    site.switch("no-fence")
    freeze(site, report, 100)
    assert report.doubled > 0


def test_sigterm_to_one_worker_after_the_other(site: Site, report: Report) -> None:
    site.ready()
    job, work = site.submit(lasts_s=6)
    site.wait_started(job)
    for worker in site.workers:
        site.wait_point(0, 1)
        name, written = worker.name(), worker.log.stat().st_size
        assert name
        assert worker.stop() == 0
        report.faults += 1
        assert not site.redis.exists(held_key(name)), "it went without giving back what it held"
        with worker.log.open("rb") as log:
            log.seek(written)
            assert b"Traceback" not in log.read()
        worker.start()
        if site.long:
            site.ready()
    site.finish(job, work, report)
    report.assert_clean()
