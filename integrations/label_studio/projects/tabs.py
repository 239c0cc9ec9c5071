"""The tasks behind a figure, as a tab of Label Studio's Data Manager.

One tab a figure: it is made when somebody asks for it, and brought up to date when they ask again.
"""

from __future__ import annotations

from typing import Any, Final

from ....schemas import ConfigError
from ..api import tasks
from ..api.connection import LabelStudioAPI
from .figures import WORDS, ProjectFigures
from .register import Projects
from .unanswered import Why

LISTED: Final = 100
"""Tasks of a reason that a tab shows: Label Studio draws a filter for each."""

FIGURES: Final[dict[str, str]] = {**WORDS, "annotated": "annotated"}
"""The figures that have tasks to show, with their names for people."""


def open_tab(api: LabelStudioAPI, projects: Projects, figures: ProjectFigures, figure: str) -> str:
    """Make or refresh the tab that shows the tasks of a figure; returns its address.

    Args:
        api: Label Studio.
        projects: where the tasks without a prediction are known.
        figures: the project's.
        figure: one of `FIGURES`.

    Raises:
        ConfigError: no such figure, or no such tasks.
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    if figure not in FIGURES:
        raise ConfigError(f"there is no figure {figure!r}: {', '.join(FIGURES)}")
    project, filters, conjunction = figures.project, *_filters(projects, figures, figure)
    data = {
        "title": f"prelabel: {FIGURES[figure]}",
        "type": "list",
        "target": "tasks",
        "filters": {"conjunction": conjunction, "items": filters},
    }
    with api.errors(f"the Data Manager's tabs of project {project}"):
        tabs = api.json("GET", "api/dm/views/", params={"project": project})
        known = next((tab for tab in tabs if tab.get("data", {}).get("title") == data["title"]), None)
        if known is None:
            tab: dict[str, Any] = api.json("POST", "api/dm/views/", json={"project": project, "data": data})
        else:
            path = f"api/dm/views/{known['id']}/"
            tab = api.json("PUT", path, json={"project": project, "data": {**known["data"], **data}})
    return f"{api.url}/projects/{project}/data?tab={tab['id']}"


def _filters(projects: Projects, figures: ProjectFigures, figure: str) -> tuple[list[tasks.Filter], str]:
    """The filters that find the tasks of a figure, and how they are joined."""
    if figure == "prelabelled":
        return [tasks.with_version(figures.version)], "and"
    if figure.startswith("waiting"):  # Label Studio cannot tell for whom
        return [tasks.without_version(figures.version)], "and"
    if figure == "not_queued":
        floor = projects.state(figures.project).floor
        return [tasks.without_version(figures.version), *([tasks.numbered_up_to(floor)] if floor else [])], "and"
    if figure == "annotated":
        return [tasks.labelled(True)], "and"
    found = projects.unanswered.tasks(figures.project, Why(figure), LISTED)
    if not found:
        raise ConfigError(f"project {figures.project} has no tasks of which {FIGURES[figure]!r} is true")
    return [tasks.is_number(number) for number in found], "or"
