"""Looking through a project for tasks that lack our prediction, and queueing them as one job.

This is the one place tasks are queued from, but for those a person opens: webhooks and `prelabel connect --all` only
say when to look. So a webhook that was lost costs time and not a task, and nobody has to believe what one says.

A look that finds nothing costs Label Studio two small requests: the project, and the tasks that changed since the
last look. All tasks without our version are listed once an hour, after a new taxonomy, and when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ....schemas import ConfigError, Priority, TransientError
from ..api.connection import LabelStudioAPI
from ..convert.questions import Questions, Unusable
from . import figures
from .look import Desk, Look, LookReport
from .pausing import HeldBack
from .questions import ProjectReader
from .register import Projects
from .removal import remove_ours

if TYPE_CHECKING:
    from ...client.client import Client

REPLACED_AT_ONCE = 250
"""Tasks whose predictions are removed before they are queued again: until they are scored they show nothing."""


class Scanner:
    """Looks through projects.

    Args:
        api: Label Studio.
        client: where tasks are queued.
        projects: what is known of them.
        model: `schemas.model_id` of the adapter's model, for projects that have chosen none.
    """

    def __init__(self, api: LabelStudioAPI, client: Client, projects: Projects, model: str) -> None:
        self._desk = Desk(api, client, projects)
        self._api = api
        self._projects = projects
        self._held_back = HeldBack(client)
        self._reader = ProjectReader(projects, model)

    def look(self, project: int, *, everything: bool = False, wait_s: float = 60.0) -> LookReport:
        """Queue what is to be queued; keep title and shown version in step; say whether there is something outdated.

        Args:
            project: the project's number; it is served.
            everything: queue every task without our version that no job under way has in hand, whether or not it was
                queued before.
            wait_s: seconds to wait for somebody else who looks through it.

        Raises:
            NotThere: the project is gone.
            PrelabelError: Label Studio or Redis is unavailable, or refuses us.
        """
        with self._projects.scanning(project, wait_s=wait_s) as renew:
            there, label_config, questions = self._asked(project)
            if isinstance(questions, Unusable):
                self._projects.update(project, problem=questions.problem)
                return LookReport(problem=questions.problem)
            state = self._projects.state(project)
            if state.rests:
                figures.refresh(self._api, self._desk.client, self._projects, project, questions.version, there)
                return LookReport(version=questions.version)
            look = partial(Look, self._desk, project, label_config, questions, state, self._working(project, renew))
            if numbers := self._held_back.numbers(project):
                back = look(everything=True)
                back.queue(back.numbered(numbers))
                self._held_back.forget(project, numbers)
            return look(everything=everything).run(there)

    def again(self, project: int, numbers: Sequence[int]) -> LookReport:
        """Queue these tasks where they still lack our version and no job under way has them in hand."""
        with self._projects.scanning(project) as renew:
            _, label_config, questions = self._asked(project)
            if isinstance(questions, Unusable):
                return LookReport(problem=questions.problem)
            state = self._projects.state(project)
            if state.rests:
                self._held_back.add(project, numbers)
                return LookReport()
            renew = self._working(project, renew)
            look = Look(self._desk, project, label_config, questions, state, renew, everything=True)
            return look.queue(look.numbered(numbers))

    def replace(self, project: int, numbers: Sequence[int]) -> LookReport:
        """Remove our predictions of these tasks, and queue them again, some hundred at a time.

        Args:
            project: the project's number.
            numbers: tasks of the project.

        Raises:
            ConfigError: nothing of the project is pre-labelled at present, or its model cannot answer what it asks;
                then no prediction is removed.
            PrelabelError: Label Studio or Redis is unavailable, or refuses us.
        """
        whole = LookReport()
        for start in range(0, len(numbers), REPLACED_AT_ONCE):
            some = numbers[start : start + REPLACED_AT_ONCE]
            with self._projects.scanning(project) as renew:
                _, label_config, questions = self._asked(project)
                if isinstance(questions, Unusable):
                    raise ConfigError(f"project {project}: {questions.problem}")
                state = self._projects.state(project)
                if state.paused:
                    raise ConfigError(f"project {project} is paused: prelabel resume --project {project}")
                if state.stopped:
                    raise ConfigError(f"project {project}: {state.problem}")
                if len(numbers) <= REPLACED_AT_ONCE:  # somebody waits for them
                    state = replace(state, priority=Priority.INTERACTIVE)
                renew = self._working(project, renew)
                look = Look(self._desk, project, label_config, questions, state, renew, everything=True)
                look.refuse_unanswerable()  # or they would have no prediction, and get none
                remove_ours(self._api, project, some, renew)
                whole += look.queue(look.numbered(some, labelled_too=True))
        return whole

    def _asked(self, project: int) -> tuple[dict[str, Any], str, Questions | Unusable]:
        """The project as Label Studio describes it, its label config, and what that asks."""
        there = self._api.project(project)
        label_config = there.get("label_config") or ""
        return there, label_config, self._reader.read(project, label_config)

    def _working(self, project: int, renew: Callable[[], object]) -> Callable[[], object]:
        """What to call at every page: a project that is paused meanwhile has no more of it queued."""

        def go_on() -> None:
            renew()
            if self._projects.rests(project):
                raise TransientError(f"project {project} has just been paused")

        return go_on
