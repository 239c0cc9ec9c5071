"""Label Studio tasks in, Label Studio predictions out.

The shapes are those Label Studio 1.23 stores and shows preselected: `choices` is always a list; a choice with an
alias is answered by its alias (its text is stored but not shown); nested choices and taxonomies are answered by
full paths, and a flat name for a nested choice is stored but not shown. An answer about one image of a list says
which (`item_index`); one about a region has the region's id, and the prediction holds a copy of the region, because
a prediction is shown on its own.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from ...schemas import Answer, ConfigError, ImageRef, Item, ItemError, Options, Prediction
from ...schemas.label_config import Condition, ControlTag, LabelConfig
from ...schemas.label_config_choices import options_of_data
from .media import image_uri
from .regions import Drawn, drawn_regions

UNDEFINED = "$undefined$"
"""Data key of tasks imported as bare files; Label Studio shows it under whatever key the label config names."""

MAX_LIST = 200
"""Images of a list that are looked at."""


def item_from_task(
    task: Mapping[str, Any], config: LabelConfig, label_studio_url: str | None, *, s3_direct: bool = False
) -> Item:
    """The item to score for a task: its id, the images the config's controls ask about, and labels it brings along.

    Args:
        task: as in the body of /predict, of a webhook, or as listed by Label Studio.
        config: the project's label config.
        label_studio_url: Label Studio as the workers reach it; None when it may not be asked for media.
        s3_direct: leave `s3:` references to the workers' own credentials.

    Raises:
        ItemError: no usable id, an image is missing or may not be fetched, the labels it should bring cannot be used,
            or nothing is there to ask about (no region yet). The caller answers nothing for this task and goes on with
            the others.
    """
    task_id = task_number(task)
    data = task.get("data")
    if not isinstance(data, Mapping):
        raise ItemError("the task has no data")
    uris = {
        name: _uris(data, name, config, lambda value: image_uri(value, task_id, label_studio_url, s3_direct=s3_direct))
        for name in config.images
    }
    to_names = frozenset(control.to_name for control in config.controls if control.per == "region")
    regions = drawn_regions(task, to_names) if to_names else []
    images: list[ImageRef] = []
    seen: set[str] = set()
    for control in config.controls:
        if control.group in seen:
            continue
        seen.add(control.group)
        if control.per == "region":
            images += _region_images(control, regions, uris[control.to_name])
        else:
            images += [ImageRef(uri=uri, name=config.group(control)) for uri in uris[control.to_name]]
    if not images:
        names = ", ".join(control.from_name for control in config.controls)
        raise ItemError(f"the task has no region yet that {names} asks about")
    return Item(id=str(task_id), images=tuple(images), options=_options(data, config))


def _uris(data: Mapping[str, Any], name: str, config: LabelConfig, address: Any) -> list[str]:
    """Addresses of the images an `<Image>` shows: one, or those of a list."""
    image = next(control.image for control in config.controls if control.to_name == name)
    value = _lookup(data, image.key)
    if value is None and len(config.images) == 1:
        value = data.get(UNDEFINED)
    if value is None:
        raise ItemError(f"the task's data has no {image.key!r}, which <Image name={name!r}> shows")
    if not image.is_list:
        return [address(value)]
    if isinstance(value, str):  # Label Studio takes a single image for a list of one
        value = [value]
    if not isinstance(value, list) or not value:
        raise ItemError(f"the task's {image.key!r} is not a list of images, which <Image name={name!r}> shows")
    if len(value) > MAX_LIST:
        raise ItemError(f"the task's {image.key!r} holds {len(value):,} images, at most {MAX_LIST} are looked at")
    return [address(one) for one in value]


def _region_images(control: ControlTag, regions: list[Drawn], uris: list[str]) -> list[ImageRef]:
    return [
        one.image(uris[one.item], control.group)
        for one in regions
        if one.is_meant(control) and 0 <= one.item < len(uris)
    ]


def _options(data: Mapping[str, Any], config: LabelConfig) -> dict[str, Options]:
    found = {}
    for control in config.controls:
        if not control.options:
            continue
        brought = _lookup(data, control.options)
        if brought is None:
            raise ItemError(f"the task's data has no {control.options!r}, the labels of {control.from_name!r}")
        taken = frozenset(label.name for label in control.taxonomy.labels)
        try:
            found[control.from_name] = options_of_data(brought, deep=control.deep, taken=taken)
        except ItemError as error:
            raise ItemError(f"the task's {control.options!r} {error}") from None
    return found


def _lookup(data: Mapping[str, Any], path: str) -> Any:
    """What `$path` stands for: a key of the data, or as in Label Studio's editor a way into it (`photos[0].url`)."""
    if path in data:
        return data[path]
    found: Any = data
    for key in re.findall(r"[^.\[\]]+", path):
        if isinstance(found, Mapping):
            found = found.get(key)
        elif isinstance(found, list) and key.isascii() and key.isdigit() and int(key[:9]) < len(found):
            found = found[int(key[:9])]
        else:
            return None
    return found


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

    `score` is the lowest confidence among the controls that are shown, chosen or not: Label Studio's uncertainty
    sampling serves the lowest score first, and a task is as doubtful as its weakest answer. It is always a number from
    0 to 1: Label Studio cannot open a task whose prediction has another.

    Returns:
        None when there is nothing to show (the item failed or no control chose anything): Label Studio stores an
        empty `result` and then asks no more for this task.
    """
    if not prediction.ok:
        return None
    shown = _shown(prediction, config)
    copies: dict[str, list[Any]] = {}
    result = []
    for one in shown:
        if one.values:
            result.append(one.entry())
            if one.image and one.image.origin:
                copies[one.image.origin.id] = json.loads(one.image.origin.stored)
    if not result:
        return None
    return {
        "task": int(prediction.item.id),
        # Regions first: what refers to an id finds it there.
        "result": [entry for stored in copies.values() for entry in stored] + result,
        "score": min(_score(one.answer.confidence) for one in shown),
        "model_version": prediction.model_version,
    }


class _Shown:
    """An answer that Label Studio's editor may show."""

    def __init__(self, answer: Answer, control: ControlTag, item: Item, group: str | None) -> None:
        self.answer = answer
        self.control = control
        self.image = item.group(group)[answer.index] if answer.index is not None else None
        options = item.options.get(control.from_name)
        stored = control.stored(options.labels) if options else control.answers
        parents = frozenset(path[:-1] for path in stored) if options else control.parents
        self.paths = [path for path in answer.paths if path in stored and not (control.leafs_only and path in parents)]
        self._stored = [stored[path] for path in self.paths]

    @property
    def region(self) -> str | None:
        """The id of the region it is about."""
        return self.image.origin.id if self.image and self.image.origin else None

    @property
    def values(self) -> list[Any]:
        """What is chosen, as Label Studio stores it."""
        if self.control.kind == "taxonomy" or self.control.nested:
            return [list(path) for path in self._stored]
        return [path[-1] for path in self._stored]

    @property
    def names(self) -> set[str]:
        """What is chosen, by name and by alias."""
        return {path[-1] for path in (*self.paths, *self._stored)}

    def entry(self) -> dict[str, Any]:
        """Its item of a `result`."""
        entry: dict[str, Any] = {
            "from_name": self.control.from_name,
            "to_name": self.control.to_name,
            "type": self.control.kind,
            "value": {self.control.kind: self.values},
            "score": _score(self.answer.confidence),
        }
        if self.region is not None:
            entry["id"] = self.region
        elif self.control.per == "item":
            entry["item_index"] = self.answer.index
        return entry


def _shown(prediction: Prediction, config: LabelConfig) -> list[_Shown]:
    """The answers to controls that are there still, and that the other answers let appear."""
    found = []
    for answer in prediction.answers:
        try:
            control = config.control(answer.control)
        except ConfigError:  # the label config has changed since
            continue
        group = config.group(control)
        if answer.index is None or answer.index < len(prediction.item.group(group)):
            found.append(_Shown(answer, control, prediction.item, group))
    return [one for one in found if _is_shown(one, found, ())]


def _is_shown(one: _Shown, others: list[_Shown], asking: tuple[_Shown, ...]) -> bool:
    """Whether its conditions hold. What is hidden hides nothing; of controls that wait for each other all are shown."""
    if one in asking:
        return True
    return all(_holds(condition, one, others, (*asking, one)) for condition in one.control.conditions)


def _holds(condition: Condition, one: _Shown, others: list[_Shown], asking: tuple[_Shown, ...]) -> bool:
    wanted = set(condition.values)
    found = any(
        (other.names & wanted if wanted else other.names) and _is_shown(other, others, asking)
        for other in others
        if other is not one
        and other.region in (None, one.region)
        and (other.control.from_name == condition.control if condition.control else other.control.kind == "choices")
    )
    return found is condition.selected


def _score(confidence: float) -> float:
    return round(min(max(confidence, 0.0), 1.0), 4) if math.isfinite(confidence) else 0.0
