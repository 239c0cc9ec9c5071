"""What a look through a project queues, asks and removes."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import pytest

from prelabel.integrations.label_studio.api.connection import LabelStudioAPI, NotThere
from prelabel.integrations.label_studio.api.tasks import PAGE_SIZE
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.integrations.label_studio.projects import scan
from prelabel.integrations.label_studio.projects.keys import ProjectKeys
from prelabel.integrations.label_studio.projects.look import Look
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.integrations.label_studio.projects.scan import Scanner
from prelabel.integrations.ledger.keys import PUSH_PENDING, JobKeys
from prelabel.schemas import BrokerUnavailable, Priority, TransientError, model_version

MODEL = "siglip@12345678"
XML = (
    '<View><Image name="img" value="$image"/><Choices name="cls" toName="img">'
    '<Choice value="Cat"/><Choice value="Dog"/></Choices></View>'
)
VERSION = model_version(MODEL, LabelConfig.parse(XML).to_controls())
OLD = f"{MODEL}+tax.000000"


@pytest.fixture
def projects(client) -> Projects:
    made = Projects(client)
    made.add(1)
    return made


@pytest.fixture
def scanner(settings, client, projects):
    api = LabelStudioAPI(settings())
    yield Scanner(api, client, projects, MODEL)
    api.close()


def queued(client) -> list[list[int]]:
    """The tasks of each job, the oldest first, each in the order they were queued."""
    jobs = [client.job(progress.job_id) for progress in reversed(client.jobs())]
    return [
        [int(item.id) for item in client.connection.store.items(job.id, range(job.progress().total))] for job in jobs
    ]


def finish(client, projects) -> None:
    """As if all jobs had ended and pushed."""
    for job_id in projects.working(1):
        client.job(job_id).cancel()
        client.connection.redis.srem("prelabel:push_pending", job_id)


def stored(task: int, version: str) -> dict:
    return {"task": task, "result": [], "score": 0.5, "model_version": version}


def test_a_task_is_queued_once_until_somebody_asks_for_all(label_studio, scanner, client, projects) -> None:
    label_studio.add_project(1, XML, tasks=[1, 2, 3])
    label_studio.predictions.append(stored(2, VERSION))
    assert scanner.look(1).queued == 2
    assert scanner.look(1).queued == 0
    assert scanner.look(1, everything=True).queued == 0  # a job has them still
    finish(client, projects)
    assert scanner.look(1).queued == 0
    assert scanner.look(1, everything=True).queued == 2
    assert queued(client) == [[3, 1], [3, 1]]


def test_unlabelled_tasks_come_first_and_the_newest_of_them(label_studio, scanner, client) -> None:
    label_studio.add_project(1, XML, tasks=range(1, 3 * PAGE_SIZE + 1))
    labelled = range(2, 3 * PAGE_SIZE + 1, 3)
    for task in labelled:
        label_studio.tasks[task]["total_annotations"] = 1
    assert scanner.look(1, everything=True).queued == 3 * PAGE_SIZE
    (order,) = queued(client)
    unlabelled = set(range(1, 3 * PAGE_SIZE + 1)) - set(labelled)
    assert order == [*sorted(unlabelled, reverse=True), *sorted(labelled, reverse=True)]


def test_labelled_tasks_are_left_alone_where_that_was_asked_for(label_studio, scanner, client, projects) -> None:
    label_studio.add_project(1, XML, tasks=range(1, 5))
    label_studio.tasks[3]["total_annotations"] = 2
    projects.update(1, unlabelled_only=True)
    assert scanner.look(1, everything=True).queued == 3
    assert scanner.look(1).queued == 0
    finish(client, projects)
    projects.update(1, unlabelled_only=False)
    assert scanner.look(1, everything=True).queued == 4
    assert queued(client) == [[4, 2, 1], [4, 2, 1, 3]]


def test_a_projects_tasks_go_to_the_queue_that_was_asked_for(label_studio, scanner, client, projects) -> None:
    label_studio.add_project(1, XML, tasks=[1])
    projects.update(1, priority=Priority.INTERACTIVE)
    scanner.look(1)
    assert [progress.priority for progress in client.jobs()] == [Priority.INTERACTIVE]
    assert client.queues()[f"interactive:{MODEL}"] == 1


class TestLock:
    """One at a time submits a project's tasks."""

    SCAN = ProjectKeys(1).scan

    def test_who_lost_it_stops_and_leaves_the_others_alone(self, client, projects) -> None:
        redis = client.connection.redis
        with projects.scanning(1) as keep:
            keep()
            redis.set(self.SCAN, "another", px=5000)
            with pytest.raises(TransientError, match="another"):
                keep()
        assert redis.get(self.SCAN) == b"another"
        assert redis.pttl(self.SCAN) <= 5000

    def test_a_project_somebody_looks_through_is_looked_at_later(self, projects) -> None:
        with (
            projects.scanning(1),
            pytest.raises(TransientError, match="already"),
            projects.scanning(1, wait_s=0),
        ):
            pass

    def test_a_lock_from_before_redis_clock_jumped_back_holds_nobody_up_for_an_hour(self, client, projects) -> None:
        client.connection.redis.set(self.SCAN, "somebody dead", ex=3600)
        with pytest.raises(TransientError), projects.scanning(1, wait_s=0):
            pass
        assert client.connection.redis.ttl(self.SCAN) <= 120


class TestOtherRelease:
    """A job whose spec this release cannot read: it goes on counting, and hinders nobody."""

    @pytest.fixture
    def foreign(self, label_studio, scanner, client, projects):
        label_studio.add_project(1, XML, tasks=[1, 2])
        assert scanner.look(1).queued == 2
        (job_id,) = projects.working(1)
        job = client.job(job_id)
        client.connection.redis.hset(JobKeys(job_id).meta, "spec", '{"wire_version": 2}')
        return job

    def test_it_works_for_the_project_until_it_has_ended_and_pushed(self, client, projects, foreign) -> None:
        redis = client.connection.redis
        redis.srem(PUSH_PENDING, foreign.id)
        assert projects.working(1) == [foreign.id], "it is still scored"
        foreign.cancel()
        redis.sadd(PUSH_PENDING, foreign.id)
        assert projects.working(1) == [foreign.id], "its answers wait to be pushed"
        redis.srem(PUSH_PENDING, foreign.id)
        assert projects.working(1) == []

    def test_it_is_forgotten_once_it_has_expired(self, client, projects, foreign) -> None:
        client.connection.redis.delete(*JobKeys(foreign.id).all())
        client.connection.redis.srem(PUSH_PENDING, foreign.id)
        assert projects.working(1) == []

    def test_a_new_taxonomy_is_asked_for_though_stored_vectors_of_another_release_cannot_be_read(
        self, label_studio, scanner, client, projects
    ) -> None:
        label_studio.add_project(1, XML, tasks=[1])
        assert scanner.look(1).queued == 1
        (job_id,) = projects.working(1)
        client.connection.redis.xadd(JobKeys(job_id).results, {"o": 0, "c": 0, "r": b"\x02of tomorrow"})
        label_studio.projects[1]["label_config"] = XML.replace('"Dog"', '"Wolf"')
        assert scanner.look(1).queued == 1


def test_a_version_that_comes_back_is_asked_for_anew(label_studio, scanner, client, projects) -> None:
    other = XML.replace('"Dog"', '"Wolf"')
    assert other != XML
    label_studio.add_project(1, XML, tasks=[1])
    assert scanner.look(1).queued == 1
    label_studio.predictions.append(stored(1, VERSION))
    finish(client, projects)
    for config, queued_then in ((other, 1), (XML, 0), (other, 1)):  # the second answer never came
        label_studio.projects[1]["label_config"] = config
        assert scanner.look(1).queued == queued_then
        finish(client, projects)


def test_a_look_that_finds_nothing_is_two_requests(label_studio, scanner, client, projects) -> None:
    label_studio.add_project(1, XML, tasks=[1], model_version=VERSION)
    scanner.look(1)
    finish(client, projects)
    scanner.look(1)
    label_studio.calls.clear()
    assert scanner.look(1).queued == 0
    assert [path for _, path, *_ in label_studio.calls] == ["/api/projects/1/", "/api/tasks"]


def test_tasks_from_before_the_connection_wait_until_they_are_asked_for(
    label_studio, scanner, client, projects
) -> None:
    label_studio.add_project(1, XML, tasks=[1, 2, 3, 4])
    label_studio.predictions.append(stored(2, OLD))
    projects.update(1, floor=3, version=OLD)
    assert scanner.look(1).queued == 2
    assert queued(client) == [[4, 2]], "the new one, and the one that was pre-labelled by an earlier version"


def test_a_config_with_nothing_for_us_is_noted(label_studio, scanner, projects) -> None:
    label_studio.add_project(1, "<View></View>", tasks=[1])
    assert "no <Choices>" in scanner.look(1).problem
    assert "no <Choices>" in projects.state(1).problem


def test_a_project_that_is_gone(scanner) -> None:
    with pytest.raises(NotThere):
        scanner.look(1)


def test_nothing_that_a_look_holds_grows_with_the_project(label_studio, scanner, client, monkeypatch) -> None:
    count = 6 * PAGE_SIZE
    label_studio.add_project(1, XML, tasks=range(1, count + 1))
    for task in range(1, count + 1, 3):
        label_studio.tasks[task]["data"] = {}
    held: list[int] = []

    class Watched(Look):
        def _to_score(self, listed):
            for item in super()._to_score(listed):
                yield item
                held.append(max(len(one) for one in holdings(self)))

    monkeypatch.setattr(scan, "Look", Watched)
    found = scanner.look(1)
    assert (found.queued, found.refused) == (count - count // 3, count // 3)
    assert f"task {count - 2}: " in found.refusal
    assert len(held) == found.queued
    assert max(held) <= 3 * PAGE_SIZE


def holdings(look) -> Iterator[Sized]:
    """The collections a look and what it found refer to, and a text in case there is none."""
    yield from (one for part in (look, look._report) for one in vars(part).values() if isinstance(one, Sized))


def test_a_task_that_is_listed_twice_is_queued_once(label_studio, scanner, client) -> None:
    count = PAGE_SIZE + 50
    label_studio.add_project(1, XML, tasks=range(1, count + 1))
    label_studio.tasks[2]["data"] = {}
    found = scanner.again(1, [*range(1, count + 1), 1, 2, count])
    assert (found.queued, found.refused) == (count - 1, 1)
    (numbers,) = queued(client)
    assert sorted(numbers) == [1, *range(3, count + 1)]


def test_tasks_whose_submission_failed_are_not_taken_for_submitted(
    label_studio, scanner, client, projects, monkeypatch
) -> None:
    label_studio.add_project(1, XML, tasks=range(1, PAGE_SIZE + 50))

    def fail(items, *_, **__):
        list(items)
        raise BrokerUnavailable("in the middle")

    with monkeypatch.context() as patch:
        patch.setattr(client, "submit", fail)
        with pytest.raises(BrokerUnavailable):
            scanner.look(1)
    assert projects.submitted(1, [1, PAGE_SIZE + 1]) == [None, None]
    assert scanner.look(1).queued == PAGE_SIZE + 49
    assert None not in projects.submitted(1, range(1, PAGE_SIZE + 50))
    assert not [key for key in client.connection.redis.scan_iter("prelabel:label_studio:*") if b"looked" in key]
