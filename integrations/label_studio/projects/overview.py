"""The figures of every project that is served, counted now where Label Studio answers, else as they were last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from ....schemas import ConfigError, PrelabelError
from ..api.connection import LabelStudioAPI
from ..convert.questions import Unusable
from . import figures
from .figures import ProjectFigures
from .questions import ProjectReader
from .register import Projects

if TYPE_CHECKING:
    from ...client.client import Client


class Overview(NamedTuple):
    """One project.

    Attributes:
        project: its number.
        figures: where its tasks stand; None when that was never counted.
        problem: why they are not of now, or why nothing is pre-labelled; empty when all is well.
    """

    project: int
    figures: ProjectFigures | None
    problem: str = ""


def overview(client: Client, projects: Projects, numbers: Sequence[int], model: str) -> Iterator[Overview]:
    """Count each project; what Label Studio does not answer for is told as it was last.

    Args:
        client: the ledger; its settings say where Label Studio is.
        projects: what is known of them.
        numbers: which projects.
        model: `schemas.model_id` of the adapter's model, for projects that have chosen none.

    Raises:
        ConfigError: LABEL_STUDIO_URL or its key is not set.
        TransientError: Redis does not answer.
    """
    reader = ProjectReader(projects, model)
    known = figures.last(projects, numbers)
    with closing(LabelStudioAPI(client.settings)) as api:
        for number in numbers:
            try:
                problem = _problem(projects, number)
                there = api.project(number)
                questions = reader.read(number, there.get("label_config") or "")
                problem = questions.problem if isinstance(questions, Unusable) else problem
                taken = figures.take(api, client, projects, number, questions.version, there)
                yield Overview(number, taken, problem)
            except PrelabelError as error:
                yield Overview(number, known.get(number), str(error))


def _problem(projects: Projects, number: int) -> str:
    try:
        return projects.state(number).problem
    except ConfigError as error:
        return str(error)
