"""What people have asked for the connected Label Studio projects, and which of them rest."""

from __future__ import annotations

from ....integrations.client.client import Client
from ....integrations.label_studio.projects.pausing import HeldBack
from ....integrations.label_studio.projects.register import Projects
from ....integrations.label_studio.projects.state import ProjectState
from ....schemas.errors import ConfigError
from ....schemas.jobs import Priority
from ....schemas.settings import Settings
from . import Check, Checks


def check_projects(settings: Settings, project: int | None) -> Checks:
    """A line for each connected project that rests, cannot be pre-labelled or is served in a way of its own.

    Args:
        settings: where Redis is.
        project: look at this one; else at those that are connected.
    """
    with Client(settings.model_copy(update={"broker_wait_s": 0})) as client:  # it is here to say what is wrong
        projects, held_back = Projects(client), HeldBack(client)
        lines: list[Check] = []
        for number in projects.numbers() if project is None else [project]:
            try:
                lines += _project(number, projects.state(number), held_back)
            except ConfigError as error:  # one project must not take the others with it
                lines.append(Check("project", "fail", str(error)))
    yield from lines


def _project(number: int, state: ProjectState, held_back: HeldBack) -> Checks:
    if state.paused:
        count = len(held_back.numbers(number))
        yield Check(
            "project", "warn", f"project {number} is paused, {count} tasks are held back",
            f"prelabel resume --project {number}",
        )  # fmt: skip
    if state.problem:
        yield Check("project", "fail", f"project {number}: {state.problem}", f"prelabel connect --project {number}")
    if state.unlabelled_only:
        yield Check("project", "ok", f"project {number}: tasks that somebody has labelled are left alone")
    if state.model:
        yield Check("project", "ok", f"project {number}: scored with {state.model}")
    if state.priority is not Priority.BULK:
        yield Check("project", "ok", f"project {number}: its tasks go to the {state.priority} queue")
