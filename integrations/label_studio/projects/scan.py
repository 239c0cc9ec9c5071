"""Looking through a project for tasks that lack our prediction, and queueing them as one job.

This is the one place tasks are queued from, but for those a person opens: webhooks and `prelabel connect --all` only
say when to look. So a webhook that was lost costs time and not a task, and nobody has to believe what one says.

A look that finds nothing costs Label Studio two small requests: the project, and the tasks that changed since the
last look. All tasks without our version are listed once an hour, after a new taxonomy, and when somebody asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..api.connection import LabelStudioAPI
from ..convert.questions import LabelConfigReader, Unusable
from .look import Desk, Look, LookReport
from .register import Projects

if TYPE_CHECKING:
    from ...client.client import Client


class Scanner:
    """Looks through projects.

    Args:
        api: Label Studio.
        client: where tasks are queued.
        projects: what is known of them.
        model: `schemas.model_id` of the checkpoint the workers serve.
    """

    def __init__(self, api: LabelStudioAPI, client: Client, projects: Projects, model: str) -> None:
        self._desk = Desk(api, client, projects, model)
        self._api = api
        self._projects = projects
        self._reader = LabelConfigReader(model)

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
            with self._api.errors(f"project {project}"):
                there = self._api.json("GET", f"api/projects/{project}/")
            label_config = there.get("label_config") or ""
            questions = self._reader.read(label_config)
            if isinstance(questions, Unusable):
                self._projects.update(project, problem=questions.problem)
                return LookReport(problem=questions.problem)
            state = self._projects.state(project)
            return Look(self._desk, project, label_config, questions, state, renew, everything=everything).run(there)

    def again(self, project: int, numbers: Sequence[int]) -> LookReport:
        """Queue these tasks where they still lack our version and no job under way has them in hand."""
        with self._projects.scanning(project) as renew:
            with self._api.errors(f"project {project}"):
                there = self._api.json("GET", f"api/projects/{project}/")
            label_config = there.get("label_config") or ""
            questions = self._reader.read(label_config)
            if isinstance(questions, Unusable):
                return LookReport(problem=questions.problem)
            state = self._projects.state(project)
            look = Look(self._desk, project, label_config, questions, state, renew, everything=True)
            return look.queue(look.numbered(numbers))
