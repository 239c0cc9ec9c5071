"""The register of projects: what is kept of one is never lost to an odd entry of another."""

from __future__ import annotations

import time

import pytest

from prelabel.integrations import Client
from prelabel.integrations.label_studio.projects.keys import PROJECT_HINTS, PROJECTS, ProjectKeys
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.schemas import ConfigError


@pytest.fixture
def projects(client: Client) -> Projects:
    return Projects(client)


def test_an_entry_that_is_no_project_keeps_nobody_from_the_others(client, projects) -> None:
    client.connection.redis.sadd(PROJECTS, "nonsense")
    client.connection.redis.zadd(PROJECT_HINTS, {"nonsense": 1.0})
    projects.add(2)
    projects.hint(3, after_s=-1)
    assert projects.numbers() == [2]
    assert projects.take_turn(time.time()).project == 3
    assert projects.take_turn(time.time()) is None


def test_a_project_whose_state_cannot_be_read_says_so_and_takes_nobody_with_it(client, projects) -> None:
    projects.add(1, floor=5)
    projects.add(2, problem="no access")
    client.connection.redis.hset(ProjectKeys(1).state, "floor", "many")
    with pytest.raises(ConfigError, match="project 1 cannot be read"):
        projects.state(1)
    assert projects.state(2).problem == "no access"
