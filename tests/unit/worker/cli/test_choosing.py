"""`prelabel pause`, `resume` and `again`, and what `prelabel doctor` says of projects."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from prelabel.integrations import Client
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.schemas import Item, PushTarget, Settings, Taxonomy
from prelabel.schemas.items import ImageRef
from prelabel.worker.cli.checks.projects import check_projects


@pytest.fixture
def projects(client: Client) -> Iterator[Projects]:
    made = Projects(client)
    made.add(7)
    yield made
    made.remove(7)


def test_a_project_is_paused_with_what_waits_in_its_jobs_and_resumed(
    run, client: Client, projects: Projects, settings: Settings
) -> None:
    items = [Item(id=str(number), images=(ImageRef(uri="s3://b/a.jpg"),)) for number in (1, 2, 3)]
    job = client.submit(items, Taxonomy.flat(["cat"]), push=PushTarget(project=7, label_config="<View/>"))
    projects.add_job(7, job.id)
    assert json.loads(run("pause", "--project", "7", "--json").output) == {
        "project": 7,
        "paused": True,
        "held_back": 3,
    }
    assert job.progress().cancelled
    assert projects.rests(7)
    told = run("pause", "--project", "7")
    assert (told.exit_code, "3 tasks are held back" in " ".join(told.output.split())) == (0, True)
    (line,) = check_projects(settings, None)
    assert (line.status, line.fix) == ("warn", "prelabel resume --project 7")
    assert "paused, 3 tasks" in line.detail
    assert run("resume", "--project", "7").exit_code == 0
    assert not projects.rests(7)
    assert list(check_projects(settings, 7)) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pause", "--project", "8"), "prelabel connect --project 8"),
        (("resume", "--project", "8"), "prelabel connect --project 8"),
        (("again", "--project", "7"), "--tasks 1,2,3 or --tab 5"),
        (("again", "--project", "7", "--tasks", "1", "--tab", "5"), "--tasks 1,2,3 or --tab 5"),
        (("again", "--project", "7", "--tasks", "1,x"), "'x' is none"),
        (("again", "--project", "7", "--tasks", ","), "--tasks"),
        (("again", "--project", "7", "--tasks", "1"), "LABEL_STUDIO_URL"),
    ],
)
def test_a_mistake_is_one_line_with_the_fix(run, projects: Projects, arguments: tuple[str, ...], said: str) -> None:
    ended = run(*arguments)
    assert ended.exit_code == 2
    assert said in " ".join(ended.output.split())
    assert "Traceback" not in ended.output


def test_what_was_asked_for_a_project_and_what_stops_it_is_told(projects: Projects, settings: Settings) -> None:
    projects.update(7, unlabelled_only=True, priority="interactive", stopped=True, problem="its model was deleted")
    lines = list(check_projects(settings, None))
    assert [line.status for line in lines] == ["fail", "ok", "ok"]
    assert [part for line in lines for part in ("deleted", "left alone", "interactive") if part in line.detail] == [
        "deleted",
        "left alone",
        "interactive",
    ]
