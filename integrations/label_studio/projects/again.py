"""Scoring chosen tasks again: a person has picked them, or a tab of the Data Manager lists them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from ....schemas import ConfigError, Settings
from ...client.client import Client
from ..api import tasks
from ..api.connection import LabelStudioAPI, NotThere
from .look import LookReport
from .pausing import connected
from .scan import Scanner

_NAMED = 5


def score_again(
    settings: Settings,
    *,
    client: Client,
    model: str,
    project: int,
    numbers: Sequence[int] = (),
    tab: int | None = None,
) -> LookReport:
    """Replace our predictions of some tasks: they are removed, and the tasks are queued whoever has labelled them.

    Args:
        settings: LABEL_STUDIO_URL and API key.
        client: the adapter's and the workers' Redis.
        model: `schemas.model_id` of the adapter's model, for projects that have chosen none.
        project: the project's number.
        numbers: the tasks.
        tab: the number of a tab of the project's Data Manager, instead of `numbers`: every task it lists.

    Raises:
        ConfigError: the project is not connected or is paused, or it has no such tasks or tab.
        TransientError: Label Studio is down or slow, or the project is being looked through for too long.
        BrokerUnavailable: Redis does not answer.
    """
    projects = connected(client, project)
    with closing(LabelStudioAPI(settings)) as api:
        chosen = list(dict.fromkeys(numbers)) if tab is None else _listed_in(api, project, tab)
        missing = sorted(set(chosen) - tasks.among(api, project, chosen)) if tab is None else []
        if missing:
            named = ", ".join(map(str, missing[:_NAMED])) + (", …" if len(missing) > _NAMED else "")
            raise ConfigError(f"project {project} has no task {named}")
        return Scanner(api, client, projects, model).replace(project, chosen)


def _listed_in(api: LabelStudioAPI, project: int, tab: int) -> list[int]:
    try:
        return tasks.in_tab(api, project, tab)
    except NotThere:
        raise ConfigError(
            f"project {project} has no tab {tab}: its number stands in the Data Manager's address, as in ?tab={tab}"
        ) from None
