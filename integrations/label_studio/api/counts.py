"""What Label Studio itself counts in a project: its tasks, those that are annotated, and the predictions it holds."""

from __future__ import annotations

from typing import Any, NamedTuple

from .connection import LabelStudioAPI


class Counts(NamedTuple):
    """Label Studio's own counts.

    Attributes:
        tasks: tasks of the project.
        annotated: those with an annotation somebody submitted.
        predictions: predictions by model version; at most one of ours a task.
    """

    tasks: int
    annotated: int
    predictions: dict[str, int]


def of_project(there: dict[str, Any]) -> tuple[int, int]:
    """Tasks, and annotated ones, of a project as `GET api/projects/N/` describes it."""
    return int(there.get("task_number") or 0), int(there.get("num_tasks_with_annotations") or 0)


def count(api: LabelStudioAPI, project: int, there: dict[str, Any] | None = None) -> Counts:
    """Label Studio's counts of a project.

    Args:
        api: Label Studio.
        project: the project's number.
        there: the project as `GET api/projects/N/` has just described it; asked for when None.

    Raises:
        NotThere: the project is gone.
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    if there is None:
        with api.errors(f"project {project}"):
            there = api.json("GET", f"api/projects/{project}/")
    number, annotated = of_project(there)
    return Counts(
        tasks=number,
        annotated=annotated,
        predictions=predictions(api, project),
    )


def predictions(api: LabelStudioAPI, project: int) -> dict[str, int]:
    """How many predictions of each model version a project holds.

    Raises:
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    with api.errors(f"model versions of project {project}"):
        path = f"api/projects/{project}/model-versions"
        listed = api.json("GET", path, params={"extended": "true"}).get("static", [])
    return {str(one["model_version"]): int(one["count"]) for one in listed}
