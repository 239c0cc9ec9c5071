"""A job that is scored again refers to what another job has answered: that may go, and may be of an earlier release."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from unittest import mock

import pytest

from prelabel.integrations import Job
from prelabel.integrations.ledger import sources
from prelabel.integrations.ledger.keys import JobKeys
from prelabel.integrations.ledger.packing import pack
from prelabel.schemas import Chunk, Outcome
from tests.faults.conftest import World
from tests.faults.report import Report
from tests.faults.site import Site
from tests.faults.truth import CONTROLS, Work, outcomes

CHUNK_ITEMS = 8


@pytest.fixture(scope="module")
def keeping(world: World) -> Iterator[Site]:
    """Two workers that store vectors."""
    made = world.site("keeping", 3, vector_store="disk", vector_store_dir=world.directory / "kept-vectors")
    yield made
    made.close()


@pytest.fixture
def site(keeping: Site) -> Iterator[Site]:
    """Both workers ready."""
    keeping.ready()
    yield keeping
    for worker in keeping.workers:
        worker.thaw()
    keeping.calm()


@pytest.fixture
def source(site: Site, report: Report) -> tuple[Job, Work]:
    """A job that is done, and what is right in it, in the order in which its answers came."""
    job, work = site.submit()
    site.finish(job, work, report)
    assert report.clean, report.problems
    return job, Work(right=[work.right[ordinal] for ordinal, _ in outcomes(site.redis, job.id)])


def rescore(site: Site, job: Job) -> Job:
    with mock.patch.object(sources, "SOURCE_CHUNK_ITEMS", CHUNK_ITEMS):
        return site.client.rescore(job, CONTROLS, top_k=3)


def freeze(site: Site) -> None:
    for worker in site.workers:
        worker.freeze()


def thaw(site: Site) -> None:
    for worker in site.workers:
        worker.thaw()


def expire(site: Site, job: Job) -> None:
    site.redis.delete(*JobKeys(job.id).all())


def check_right_or_gone(site: Site, job: Job, work: Work, report: Report) -> int:
    """Every item has one outcome: the right answer, or that it cannot be had any more. Returns how many could not."""
    assert site.settle(job), f"the job did not end: {job.progress()}"
    found = list(outcomes(site.redis, job.id))
    seen = Counter(ordinal for ordinal, _ in found)
    report.items += len(work.right)
    report.lost += len(set(range(len(work.right))) - set(seen))
    report.doubled += sum(seen.values()) - len(seen)
    gone = 0
    for ordinal, outcome in found:
        if outcome.error is not None and "has expired" in outcome.error.message:
            gone += 1
        elif not outcome.answers or outcome.answers[0].paths != ((work.right[ordinal],),):
            report.wrong += 1
            report.note(f"item {ordinal} is {outcome.error or outcome.answers[0].paths}, not {work.right[ordinal]}")
    return gone


def test_kill_9_of_a_worker_while_a_job_is_scored_again(site: Site, source: tuple[Job, Work], report: Report) -> None:
    job, work = source
    for _ in range(site.rounds(2, 2000)):
        site.ready()
        freeze(site)
        again = rescore(site, job)
        thaw(site)
        site.wait_started(again)
        site.rng.choice(site.workers).kill()
        report.faults += 1
        site.finish(again, work, report)
    report.assert_clean()


def test_what_is_scored_again_expires_before_anybody_looked_at_it(
    site: Site, source: tuple[Job, Work], report: Report
) -> None:
    job, work = source
    freeze(site)
    again = rescore(site, job)
    expire(site, job)
    report.faults += 1
    thaw(site)
    assert check_right_or_gone(site, again, work, report) == len(work.right)
    assert again.progress().failed == len(work.right)
    report.assert_clean()


def test_what_is_scored_again_expires_meanwhile(site: Site, source: tuple[Job, Work], report: Report) -> None:
    job, work = source
    freeze(site)
    again = rescore(site, job)
    thaw(site)
    site.wait_started(again)
    expire(site, job)
    report.faults += 1
    gone = check_right_or_gone(site, again, work, report)
    assert gone < len(work.right), "it had begun"
    report.assert_clean()


def test_a_job_that_an_earlier_release_answered_is_scored_again(
    site: Site, source: tuple[Job, Work], report: Report
) -> None:
    """It wrote an entry for every item."""
    job, work = source
    keys = JobKeys(job.id)
    raw = site.client.connection.redis
    spec = raw.hget(keys.meta, "spec")
    held = [
        (ordinal, Outcome(model_version=one.model_version, vectors=one.vectors, answers=one.answers))
        for ordinal, one in outcomes(site.redis, job.id)
    ]
    chunk_of = {
        ordinal: index for index, text in raw.hgetall(keys.chunks).items() for ordinal in Chunk.ordinals_in(text)
    }
    raw.delete(keys.results)
    for ordinal, outcome in held:
        raw.xadd(keys.results, {"o": ordinal, "c": chunk_of[ordinal], "r": pack(outcome, spec)})
    again = rescore(site, job)
    report.faults += 1
    site.finish(again, work, report)
    report.assert_clean()
