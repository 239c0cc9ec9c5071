"""Removing our predictions of chosen tasks; those of other models stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ....schemas import ModelVersion
from ..api import tasks
from ..api.connection import LabelStudioAPI, NotThere

_AT_ONCE = 50
"""Tasks listed at once, with their predictions, and cleared in one request where no other model has predicted them."""


def remove_ours(api: LabelStudioAPI, project: int, numbers: Sequence[int], renew: Callable[[], object]) -> None:
    """Remove our predictions of these tasks.

    Args:
        api: Label Studio.
        project: the project's number.
        numbers: tasks of the project.
        renew: called now and then: one prediction takes 0.1 s where another model's must stay.

    Raises:
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    for start in range(0, len(numbers), _AT_ONCE):
        renew()
        filters = [tasks.numbered(numbers[start : start + _AT_ONCE])]
        listed = tasks.page(api, project, filters, size=_AT_ONCE, fields="id,predictions").tasks
        predictions = {int(task["id"]): task["predictions"] for task in listed if task["predictions"]}
        alone = [
            number
            for number, mine in predictions.items()
            if all(ModelVersion.is_ours(one["model_version"] or "") for one in mine)
        ]
        if alone:
            with api.errors(f"predictions of project {project}"):
                api.json(
                    "POST",
                    "api/dm/actions",
                    params={"id": "delete_tasks_predictions", "project": project},
                    json={"selectedItems": {"all": False, "included": alone}},
                )
        for number in predictions.keys() - set(alone):
            for one in predictions[number]:
                if ModelVersion.is_ours(one["model_version"] or ""):
                    _remove(api, int(one["id"]))


def _remove(api: LabelStudioAPI, prediction: int) -> None:
    try:
        with api.errors(f"prediction {prediction}"):
            api.json("DELETE", f"api/predictions/{prediction}/")
    except NotThere:  # somebody was faster
        return
