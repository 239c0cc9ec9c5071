"""Whose ML backend is deleted in Label Studio is served no more, and nobody else."""

from __future__ import annotations

import pytest

from prelabel.integrations.label_studio.api.connection import LabelStudioAPI
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.integrations.label_studio.projects.pausing import HeldBack
from prelabel.integrations.label_studio.projects.reconciler import Reconciler
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.integrations.label_studio.projects.scan import Scanner
from prelabel.schemas import model_version

MODEL = "siglip@12345678"
URL = "http://prelabel:9090"
XML = (
    '<View><Image name="img" value="$image"/><Choices name="cls" toName="img">'
    '<Choice value="Cat"/><Choice value="Dog"/></Choices></View>'
)
VERSION = model_version(MODEL, LabelConfig.parse(XML).to_controls())


def backend(url: str, version: str = VERSION) -> dict:
    return {"id": 1, "project": 1, "url": url, "title": version, "model_version": version, "state": "CO"}


@pytest.fixture
def projects(label_studio, client) -> Projects:
    label_studio.add_project(1, XML, tasks=[1, 2])
    return Projects(client)


@pytest.fixture
def look(settings, client, projects):
    """Looks at what is due."""
    made = Reconciler(settings(reconcile_s=0.001), client, projects, MODEL)

    def look() -> None:
        projects.hint(1)
        made.tick()

    yield look
    made.stop()


@pytest.mark.parametrize(
    ("address", "backends"),
    [
        ("", []),  # served without one
        (URL, [backend(URL + "/")]),
        (URL, [backend("http://moved:9090")]),  # `prelabel connect` is at it
    ],
)
def test_a_project_that_was_not_left_is_served(label_studio, projects, look, address: str, backends: list) -> None:
    projects.add(1, backend_url=address)
    label_studio.backends = backends
    look()
    assert not projects.state(1).stopped
    assert len(projects.working(1)) == 1


@pytest.mark.parametrize("backends", [[], [backend("http://other:9090", "other@12345678+tax.abcdef")]])
def test_a_project_whose_backend_was_deleted_is_stopped_and_what_its_jobs_had_left_is_held_back(
    label_studio, client, projects, look, backends: list
) -> None:
    projects.add(1, backend_url=URL)
    label_studio.backends = [backend(URL)]
    label_studio.webhooks = [
        {"id": 1, "url": f"{URL}/webhook", "project": 1},
        {"id": 2, "url": "http://theirs/hook", "project": 1},
    ]
    look()
    (job_id,) = projects.working(1)
    label_studio.backends = backends
    look()
    assert client.job(job_id).progress().cancelled
    assert HeldBack(client).numbers(1) == [2, 1]
    assert [hook["id"] for hook in label_studio.webhooks] == [2]
    assert projects.serves(1)
    assert "prelabel connect --project 1" in projects.state(1).problem
    client.connection.redis.srem("prelabel:push_pending", job_id)
    look()
    assert projects.working(1) == []

    label_studio.backends = [backend(URL)]
    look()
    assert not projects.state(1).rests
    assert projects.state(1).problem == ""
    (again,) = projects.working(1)
    assert client.job(again).progress().total == 2
    assert {hook["url"] for hook in label_studio.webhooks} == {f"{URL}/webhook", "http://theirs/hook"}


def test_a_stop_that_was_interrupted_is_finished_by_the_next_look(label_studio, client, projects, look) -> None:
    projects.add(1, backend_url=URL)
    label_studio.backends = [backend(URL)]
    label_studio.webhooks = [{"id": 1, "url": f"{URL}/webhook", "project": 1}]
    look()
    (job_id,) = projects.working(1)
    label_studio.backends = []
    projects.update(1, stopped=True, problem="its model was deleted")  # and then the adapter was killed
    look()
    assert client.job(job_id).progress().cancelled
    assert HeldBack(client).numbers(1) == [2, 1]
    assert label_studio.webhooks == []


def test_a_look_that_takes_a_new_version_makes_no_backend_that_was_deleted(
    label_studio, settings, client, projects
) -> None:
    projects.add(1, backend_url=URL, version=f"{MODEL}+tax.000000")
    api = LabelStudioAPI(settings())
    assert Scanner(api, client, projects, MODEL).look(1).version == VERSION
    api.close()
    assert label_studio.backends == []
