"""Workers that die while they search, two that bring one folder up to date at once, vectors that are gone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from prelabel.integrations import Job
from prelabel.schemas import PrelabelError, TransientError
from tests.faults.conftest import World
from tests.faults.report import Report
from tests.faults.site import Site, wait_for

TEXT = "a red circle"
MOST = 10_000
ROUNDS = 3
ITEMS = 100


@pytest.fixture(scope="module")
def searching(world: World) -> Iterator[Site]:
    """Two workers with one folder of vectors and one of what is searched."""
    made = world.site(
        "searching",
        5,
        vector_store="disk",
        vector_store_dir=world.directory / "searched-vectors",
        state_dir=world.directory / "searched-state",
    )
    yield made
    made.close()


@pytest.fixture
def site(searching: Site) -> Iterator[Site]:
    """Both workers ready."""
    searching.ready()
    yield searching
    searching.calm()


def folder(site: Site) -> Path:
    return site.settings.state_dir / "search"


def answered(site: Site, report: Report) -> Job:
    """A job whose answers are right."""
    job, work = site.submit(site.truth.work(min(ITEMS, site.items), site.rng))
    site.finish(job, work, report)
    return job


def search(site: Site, job: Job, timeout: float = 30.0) -> list[tuple[int, float]]:
    """Everything that is found, in its order."""
    return [(hit.task, round(hit.cosine, 5)) for hit in site.client.search(job, TEXT, k=MOST, timeout=timeout)]


def check(site: Site, job: Job, report: Report) -> None:
    """What is found is what files that are made anew give, each item once, and every answered item."""
    found = search(site, job)
    shutil.rmtree(folder(site))
    assert found == search(site, job)
    tasks = [task for task, _ in found]
    there = {prediction.ordinal for prediction in job.results_so_far() if prediction.ok}
    report.lost += len(there - set(tasks))
    report.doubled += len(tasks) - len(set(tasks))
    report.wrong += len(set(tasks) - there)


def test_a_worker_is_killed_while_it_searches(site: Site, report: Report) -> None:
    with ThreadPoolExecutor() as pool:
        for _ in range(ROUNDS):
            job = answered(site, report)
            asked: Future[list[tuple[int, float]]] = pool.submit(search, site, job, 8.0)
            site.wait_point(0.0, 0.1)
            site.rng.choice(site.workers).kill()
            report.faults += 1
            error = asked.exception(timeout=30)
            assert error is None or "no worker answered the search" in str(error)
            site.ready()
            check(site, job, report)
    report.assert_clean()


def test_two_workers_bring_one_folder_up_to_date_at_once(site: Site, report: Report) -> None:
    with ThreadPoolExecutor() as pool:
        for _ in range(ROUNDS):
            job = answered(site, report)
            found = [one.result(timeout=60) for one in [pool.submit(search, site, job) for _ in range(6)]]
            report.faults += 1
            assert all(one == found[0] for one in found)
            check(site, job, report)
    report.assert_clean()


def test_vectors_are_gone_while_they_are_searched(site: Site, report: Report) -> None:
    job = answered(site, report)
    before = search(site, job)
    store = site.settings.vector_store_dir
    assert store is not None
    for worker in site.workers:
        worker.stop()
    shutil.rmtree(store)
    for worker in site.workers:
        worker.start()
    report.faults += 1
    site.ready()
    # What was read is kept, in the precision of the files.
    assert sorted(task for task, _ in search(site, job)) == sorted(task for task, _ in before)
    shutil.rmtree(folder(site))
    gone = site.client.search(job, TEXT)
    assert (list(gone), gone.searched, gone.missing) == ([], 0, len(before))
    check_again = answered(site, report)
    check(site, check_again, report)
    report.assert_clean()


def test_no_worker_is_there_for_a_while(site: Site, report: Report) -> None:
    job = answered(site, report)
    before = search(site, job)
    for worker in site.workers:
        worker.freeze()
    report.faults += 1
    with pytest.raises(TransientError, match="no worker answered the search within 1 s"):
        search(site, job, timeout=1.0)
    for worker in site.workers:
        worker.thaw()
    assert wait_for(lambda: _or_nothing(site, job), 30) == before
    check(site, job, report)
    report.assert_clean()


def _or_nothing(site: Site, job: Job) -> list[tuple[int, float]]:
    try:
        return search(site, job, timeout=5.0)
    except PrelabelError:
        return []
