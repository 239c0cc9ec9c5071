"""Pausing a project: nothing of it is queued, and what waits in its jobs is held back until it is resumed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

from ....schemas import ConfigError
from ...client.client import Client
from .held import unfinished_tasks
from .keys import ProjectKeys
from .register import Projects

_PER_TRIP = 1000


class HeldBack:
    """The tasks a project's jobs were cancelled before, to be queued again. Thread-safe.

    Args:
        client: whose Redis they are in. Every method raises `BrokerUnavailable` as the client's do.
    """

    def __init__(self, client: Client) -> None:
        self._redis: Any = client.connection.redis
        self._patiently = client.connection.patiently

    def add(self, project: int, tasks: Sequence[int]) -> None:
        """Remember some."""
        if tasks:
            self._patiently(lambda: self._redis.sadd(ProjectKeys(project).held_back, *tasks))

    def numbers(self, project: int) -> list[int]:
        """All of them, the newest first."""
        members = self._patiently(lambda: self._redis.smembers(ProjectKeys(project).held_back))
        return sorted((int(raw) for raw in members if raw.isdigit()), reverse=True)

    def forget(self, project: int, tasks: Sequence[int]) -> None:
        """They are queued again."""
        for some in _some(tasks):
            self._patiently(partial(self._redis.srem, ProjectKeys(project).held_back, *some))


def pause(client: Client, project: int) -> int:
    """Queue nothing of a project from now on, and hold back what waits in its jobs. What is scored already is pushed.

    Args:
        client: the adapter's Redis.
        project: the project's number; pausing it twice is no error.

    Returns:
        How many tasks are held back.

    Raises:
        ConfigError: the project is not connected.
        TransientError: it is being looked through just now and does not end; it is paused all the same, and pausing it
            again holds back what was queued meanwhile.
        BrokerUnavailable: Redis does not answer.
    """
    projects = connected(client, project)
    projects.update(project, paused=True)
    with projects.scanning(project):  # a look under way ends at its next page, and then nobody submits
        hold_back(client, projects, project)
    return len(HeldBack(client).numbers(project))


def resume(client: Client, project: int) -> int:
    """Go on with a project: what was held back, and what came meanwhile, is queued by the adapter at once.

    Returns:
        How many tasks had been held back.

    Raises:
        ConfigError: the project is not connected.
        BrokerUnavailable: Redis does not answer.
    """
    projects = connected(client, project)
    projects.update(project, paused=False)
    projects.hint(project)
    return len(HeldBack(client).numbers(project))


def hold_back(client: Client, projects: Projects, project: int) -> None:
    """Cancel a project's jobs, and remember the tasks they had not answered."""
    held_back = HeldBack(client)
    for job_id in projects.working(project):
        # Before it is cancelled: after that nobody would find them, were we to die here. What is answered meanwhile is
        # seen to be when they are queued again.
        for some in _some(unfinished_tasks(client, job_id)):
            held_back.add(project, some)
        client.job(job_id).cancel()


def connected(client: Client, project: int) -> Projects:
    """The register of projects.

    Raises:
        ConfigError: the project is not among them.
    """
    projects = Projects(client)
    if not projects.serves(project):
        raise ConfigError(f"project {project} is not connected: prelabel connect --project {project}")
    return projects


def _some(tasks: Iterable[int]) -> Iterator[list[int]]:
    """The tasks, as many at a time as go into one command."""
    left = iter(tasks)
    while some := list(islice(left, _PER_TRIP)):
        yield some
