"""What Label Studio itself counts in a project: its tasks, those that are annotated, and the predictions it holds."""

from __future__ import annotations

from typing import Any

from .connection import LabelStudioAPI


def of_project(there: dict[str, Any]) -> tuple[int, int]:
    """Tasks, and annotated ones, of a project as `GET api/projects/N/` describes it."""
    return int(there.get("task_number") or 0), int(there.get("num_tasks_with_annotations") or 0)


def predictions(api: LabelStudioAPI, project: int) -> dict[str, int]:
    """How many predictions of each model version a project holds.

    Raises:
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    with api.errors(f"model versions of project {project}"):
        path = f"api/projects/{project}/model-versions"
        listed = api.json("GET", path, params={"extended": "true"}).get("static", [])
    return {str(one["model_version"]): int(one["count"]) for one in listed}
