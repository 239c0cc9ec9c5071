"""Whose turn it is: every project that is due is looked at, whatever becomes of the others."""

from __future__ import annotations

import time

import pytest

from prelabel.integrations.label_studio.projects.reconciler import Reconciler
from prelabel.integrations.label_studio.projects.register import TAKEN_S, Projects
from prelabel.integrations.label_studio.projects.scan import Scanner

MODEL = "siglip@12345678"
XML = (
    '<View><Image name="img" value="$image"/><Choices name="cls" toName="img">'
    '<Choice value="Cat"/><Choice value="Dog"/></Choices></View>'
)


class Killed(BaseException):
    """Ends what runs there and then; nothing that catches errors sees it."""


@pytest.fixture
def projects(client) -> Projects:
    return Projects(client)


@pytest.fixture
def reconciler(settings, client, projects):
    made = Reconciler(settings(), client, projects, MODEL)
    yield made
    made.stop()


@pytest.fixture
def served(label_studio, projects) -> list[int]:
    for number in (1, 2, 3):
        label_studio.add_project(number, XML, tasks=[number])
        projects.add(number)
    return [1, 2, 3]


def hinted(projects: Projects) -> dict[int, float]:
    """Projects that have a turn to come, and when."""
    return {int(raw): at for raw, at in projects._redis.zrange("prelabel:label_studio:hints", 0, -1, withscores=True)}


def queued(client) -> set[str]:
    return {progress.name for progress in client.jobs()}


def test_one_projects_error_leaves_the_others_their_turns(label_studio, reconciler, client, projects, served) -> None:
    label_studio.projects[1]["label_config"] = 7  # nothing that anybody expects of Label Studio
    reconciler.tick()
    assert queued(client) == {"label studio project 2", "label studio project 3"}
    assert set(hinted(projects)) == {1, 2, 3}, "the one in trouble is looked at again, too"


def test_a_project_in_trouble_is_looked_at_again_where_nothing_else_would(
    label_studio, settings, client, projects, served
) -> None:
    reconciler = Reconciler(settings(reconcile_s=0), client, projects, MODEL)
    label_studio.projects[1]["label_config"] = 7
    reconciler.tick()
    reconciler.stop()
    assert 1 in hinted(projects)


def test_who_is_killed_at_a_look_keeps_nobodys_turn(reconciler, client, projects, served, monkeypatch) -> None:
    def die(*args: object, **options: object) -> None:
        raise Killed

    monkeypatch.setattr(Scanner, "look", die)
    with pytest.raises(Killed):
        reconciler.tick()
    assert set(hinted(projects)) == {1, 2, 3}
    later = time.time() + TAKEN_S
    assert {projects.take_turn(later).project for _ in served} == {1, 2, 3}
    assert projects.take_turn(later) is None


def test_a_turn_is_taken_by_one(projects) -> None:
    projects.hint(1)
    now = time.time()
    assert projects.take_turn(now).project == 1
    assert projects.take_turn(now) is None
    assert projects.take_turn(time.time() + TAKEN_S).project == 1, "whoever took it has died"


def test_a_turn_that_is_over_is_over(projects) -> None:
    projects.hint(1)
    projects.end_turn(projects.take_turn(time.time()))
    assert hinted(projects) == {}


def test_the_next_turn_is_when_it_was_said(projects) -> None:
    projects.hint(1)
    projects.end_turn(projects.take_turn(time.time()), next_at=4e9)
    assert hinted(projects) == {1: 4e9}


def test_a_hint_in_the_middle_of_a_look_is_another_turn(projects) -> None:
    for next_at in (None, 4e9):
        projects.hint(1)
        turn = projects.take_turn(time.time())
        projects.hint(1)
        projects.end_turn(turn, next_at=next_at)
        assert projects.take_turn(time.time()).project == 1
        projects._redis.delete("prelabel:label_studio:hints")


def test_a_project_that_is_served_no_more_has_no_turn(projects) -> None:
    projects.hint(1)
    turn = projects.take_turn(time.time())
    projects.remove(1)
    projects.end_turn(turn, next_at=4e9)
    assert hinted(projects) == {}


@pytest.mark.parametrize("trouble", ["unexpected", "busy"])
def test_what_one_project_was_promised_does_not_hold_up_the_others(
    label_studio, reconciler, client, projects, served, monkeypatch, trouble: str
) -> None:
    version = f"{MODEL}+tax.abcdef"
    reconciler.tick()
    for number in (1, 2, 3):
        projects.claims.verify_later(number, [(number, version)], after_s=-number)
    taken = label_studio.projects.pop(3) if trouble == "busy" else label_studio.projects[3].update(label_config=7)
    label_studio.trouble = lambda method, path: 503 if taken and path.endswith("/3/") else None
    reconciler._checked = -1e9
    reconciler.tick()
    assert set(projects.claims.to_verify()) == set(), "3 is checked again, and not at once"
    members = projects._redis.zrange("prelabel:label_studio:verify", 0, -1)
    assert [member.split(b"/")[0] for member in members] == [b"3"]
