"""Label Studio tasks in, Label Studio predictions out.

The shapes are those Label Studio 1.23 stores and shows preselected: `choices` is always a list; a choice with an
alias is answered by its alias (its text is stored but not shown); nested choices and taxonomies are answered by
full paths, and a flat name for a nested choice is stored but not shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ...schemas import Answer, ConfigError, ImageRef, Item, ItemError, Prediction
from ...schemas.label_config import ControlTag, LabelConfig
from .media import image_uri

UNDEFINED = "$undefined$"
"""Data key of tasks imported as bare files; Label Studio shows it under whatever key the label config names."""


def item_from_task(task: Mapping[str, Any], config: LabelConfig, label_studio_url: str | None) -> Item:
    """The item to score for a task: its id and the images the config's controls ask about.

    Args:
        task: as in the body of /predict, of a webhook, or as listed by Label Studio.
        config: the project's label config.
        label_studio_url: Label Studio as the workers reach it; None when it may not be asked for media.

    Raises:
        ItemError: no usable id, or an image is missing or may not be fetched. The caller answers nothing for this
            task and goes on with the others.
    """
    task_id = task_number(task)
    data = task.get("data")
    if not isinstance(data, Mapping):
        raise ItemError("the task has no data")
    several = len(config.images) > 1
    images = []
    for name, key in config.images.items():
        value = data.get(key)
        if value is None and not several:
            value = data.get(UNDEFINED)
        if value is None:
            raise ItemError(f"the task's data has no {key!r}, which <Image name={name!r}> shows")
        images.append(ImageRef(uri=image_uri(value, task_id, label_studio_url), name=name if several else None))
    return Item(id=str(task_id), images=tuple(images))


def task_number(task: Mapping[str, Any]) -> int:
    """The task's id.

    Raises:
        ItemError: none, or not a positive number.
    """
    number = task.get("id")
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ItemError("the task has no id")
    return number


def has_version(task: Mapping[str, Any], version: str) -> bool:
    """Whether the task already carries a prediction of this model version."""
    predictions = task.get("predictions")
    if not isinstance(predictions, list):
        return False
    return any(isinstance(known, Mapping) and known.get("model_version") == version for known in predictions)


def project_number(project: object) -> int | None:
    """The project's id: webhooks send it as a number, /setup and /predict as `"<id>.<created at>"`."""
    if isinstance(project, int) and not isinstance(project, bool):
        return project if project > 0 else None
    digits = project.partition(".")[0] if isinstance(project, str) else ""
    return int(digits) or None if digits.isascii() and digits.isdigit() and len(digits) < 19 else None


def prediction_to_label_studio(prediction: Prediction, config: LabelConfig) -> dict[str, Any] | None:
    """The prediction as Label Studio takes it: `{"task", "result", "score", "model_version"}`.

    `score` is the lowest confidence among the controls, chosen or not: Label Studio's uncertainty sampling serves
    the lowest score first, and a task is as doubtful as its weakest answer. It is always a number from 0 to 1:
    Label Studio cannot open a task whose prediction has another.

    Returns:
        None when there is nothing to show (the item failed or no control chose anything): Label Studio stores an
        empty `result` and then asks no more for this task.
    """
    if not prediction.ok:
        return None
    result = [entry for answer in prediction.answers if (entry := _entry(answer, config)) is not None]
    if not result:
        return None
    return {
        "task": int(prediction.item.id),
        "result": result,
        "score": min(_score(answer.confidence) for answer in prediction.answers),
        "model_version": prediction.model_version,
    }


def _entry(answer: Answer, config: LabelConfig) -> dict[str, Any] | None:
    try:
        control = config.control(answer.control)
    except ConfigError:  # the label config has changed since
        return None
    values = _values(answer, control)
    if not values:
        return None
    return {
        "from_name": control.from_name,
        "to_name": control.to_name,
        "type": control.kind,
        "value": {control.kind: values},
        "score": _score(answer.confidence),
    }


def _values(answer: Answer, control: ControlTag) -> list[Any]:
    parents = {path[:-1] for path in control.answers} if control.leafs_only else set()
    chosen = [control.answers[path] for path in answer.paths if path in control.answers and path not in parents]
    if control.kind == "taxonomy" or control.nested:
        return [list(path) for path in chosen]
    return [path[-1] for path in chosen]


def _score(confidence: float) -> float:
    return round(min(max(confidence, 0.0), 1.0), 4) if math.isfinite(confidence) else 0.0
