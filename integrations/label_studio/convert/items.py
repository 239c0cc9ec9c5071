"""Label Studio's tasks as our items: the images and labels a task brings for each control."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ....schemas import ImageRef, Item, ItemError, Options
from ..api.media import image_uri
from ..label_config.choices import options_of_data
from ..label_config.config import ControlTag, LabelConfig
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
        if control.image_name in seen:
            continue
        seen.add(control.image_name)
        if control.per == "region":
            images += _region_images(control, regions, uris[control.to_name])
        else:
            images += [ImageRef(uri=uri, name=config.image_name(control)) for uri in uris[control.to_name]]
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
        one.image(uris[one.item], control.image_name)
        for one in regions
        if one.is_meant(control) and 0 <= one.item < len(uris)
    ]


def _options(data: Mapping[str, Any], config: LabelConfig) -> dict[str, Options]:
    options = {}
    for control in config.controls:
        if not control.options:
            continue
        brought = _lookup(data, control.options)
        if brought is None:
            raise ItemError(f"the task's data has no {control.options!r}, the labels of {control.from_name!r}")
        taken = frozenset(label.name for label in control.taxonomy.labels)
        try:
            options[control.from_name] = options_of_data(brought, deep=control.deep, taken=taken)
        except ItemError as error:
            raise ItemError(f"the task's {control.options!r} {error}") from None
    return options


def _lookup(data: Mapping[str, Any], path: str) -> Any:
    """What `$path` stands for: a key of the data, or as in Label Studio's editor a way into it (`photos[0].url`)."""
    if path in data:
        return data[path]
    value: Any = data
    for key in re.findall(r"[^.\[\]]+", path):
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list) and key.isascii() and key.isdigit() and int(key[:9]) < len(value):
            value = value[int(key[:9])]
        else:
            return None
    return value


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
