"""Label Studio's tasks as our items: the images and labels a task brings for each control."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ....schemas import ImageRef, Item, ItemError, Options
from ..api.media import image_uri
from ..label_config.choices import options_of_data
from ..label_config.config import ControlTag, ImageTag, LabelConfig
from .regions import MAX_REGIONS, drawn_regions

UNDEFINED = "$undefined$"
"""Data key of tasks imported as bare files; Label Studio shows it under whatever key the label config names."""

MAX_LIST = 200
"""Images of a list that are looked at."""


def item_from_task(
    task: Mapping[str, Any], config: LabelConfig, label_studio_url: str | None, *, s3_direct: bool = False
) -> Item:
    """The item to score for a task: its id, the images the config's controls ask about, and labels it brings along.

    What is wrong with one image or one control's labels takes no other control: it stands in the item
    (`ImageRef.problem`, `Item.problems`), whose prediction then says which control is not answered.

    Args:
        task: as in the body of /predict, of a webhook, or as listed by Label Studio.
        config: the project's label config.
        label_studio_url: Label Studio as the workers reach it; None when it may not be asked for media.
        s3_direct: leave `s3:` references to the workers' own credentials.

    Raises:
        ItemError: no usable id, no control that can be answered (its image is missing or may not be fetched, the labels
            it should bring cannot be used), or nothing is there to ask about (no region yet). The caller answers
            nothing for this task and goes on with the others.
    """
    task_id = task_number(task)
    data = task.get("data")
    if not isinstance(data, Mapping):
        raise ItemError("the task has no data")
    shown = _Shown(data, config, lambda value: image_uri(value, task_id, label_studio_url, s3_direct=s3_direct))
    asked: dict[str, tuple[ImageRef, ...]] = {}
    options: dict[str, Options] = {}
    problems: dict[str, str] = {}
    regions = _Regions(task, config)
    for control in config.controls:
        try:
            if control.options:
                options[control.from_name] = _options(data, control)
            if control.image_name not in asked:
                asked[control.image_name] = regions.of(control, shown) if control.per == "region" else shown.of(control)
        except ItemError as error:
            problems[control.from_name] = str(error)
    _refuse_unanswerable(config, asked, problems)
    images = tuple(image for images in asked.values() for image in images)
    brought = {name: labels for name, labels in options.items() if name not in problems}
    return Item(id=str(task_id), images=images, options=brought, problems=problems)


def images_of_task(
    task: Mapping[str, Any], config: LabelConfig, label_studio_url: str | None, *, s3_direct: bool = False
) -> tuple[ImageRef, ...]:
    """The whole images that a label config asks about, each address once, in its order: for people to look at.

    What cannot be fetched is left out.

    Args:
        task: see `item_from_task`.
        config: see there.
        label_studio_url: see there.
        s3_direct: see there.

    Raises:
        ItemError: the task has no usable id or no data.
    """
    task_id = task_number(task)
    data = task.get("data")
    if not isinstance(data, Mapping):
        raise ItemError("the task has no data")
    shown = _Shown(data, config, lambda value: image_uri(value, task_id, label_studio_url, s3_direct=s3_direct))
    images: dict[str, ImageRef] = {}
    for control in config.controls:
        try:
            images.update((image.uri, image) for image in shown.of(control) if not image.problem)
        except ItemError:
            continue
    return tuple(images.values())


def _refuse_unanswerable(
    config: LabelConfig, asked: Mapping[str, Sequence[ImageRef]], problems: Mapping[str, str]
) -> None:
    """Raise `ItemError` where no control can be answered."""
    first = ""
    for control in config.controls:
        problem = problems.get(control.from_name)
        if problem is None:
            images = asked[control.image_name]
            lost = [image.problem for image in images if image.problem]
            if len(lost) < (len(images) if control.over == "each" else min(len(images), 1)):
                return
            problem = lost[0] if lost else ""
        first = first or problem
    names = ", ".join(control.from_name for control in config.controls)
    raise ItemError(first or f"the task has no region yet that {names} asks about")


class _Shown:
    """What a task's data has for each `<Image>`.

    Args:
        data: the task's.
        config: its label config.
        address: from a value of the data to what a worker can fetch; raises `ItemError`.
    """

    def __init__(self, data: Mapping[str, Any], config: LabelConfig, address: Callable[[object], str]) -> None:
        self._data = data
        self._takes_bare_file = len(config.images) == 1
        self._address = address

    def of(self, control: ControlTag) -> tuple[ImageRef, ...]:
        """The images a control asks about; one that can never be had says why, and keeps its place in a list."""
        return tuple(self._image(value, control.image_name) for tag in control.images for value in self._values(tag))

    def _values(self, tag: ImageTag) -> list[object]:
        """The image that a tag shows, or those of a list, as the data has them.

        Raises:
            ItemError: there is none, or a list that is none.
        """
        value = _lookup(self._data, tag.key)
        if value is None and self._takes_bare_file:
            value = self._data.get(UNDEFINED)
        if value is None or value == "":
            raise ItemError(f"the task's data has no {tag.key!r}, which <Image name={tag.name!r}> shows")
        if isinstance(value, str) or not (tag.is_list or isinstance(value, list)):
            return [value]  # for a list, too, Label Studio takes a single image
        if not isinstance(value, list) or not value:
            raise ItemError(f"the task's {tag.key!r} is not a list of images, which <Image name={tag.name!r}> shows")
        if len(value) > MAX_LIST:
            raise ItemError(f"the task's {tag.key!r} holds {len(value):,} images, at most {MAX_LIST} are looked at")
        return value

    def _image(self, value: object, name: str) -> ImageRef:
        try:
            return ImageRef(uri=self._address(value), name=name)
        except ItemError as error:
            return ImageRef.unusable(str(error), name=name)


class _Regions:
    """The regions of a task that are labelled.

    Args:
        task: with what people have drawn.
        config: its label config.
    """

    def __init__(self, task: Mapping[str, Any], config: LabelConfig) -> None:
        controls = [control for control in config.controls if control.per == "region"]
        to_names = frozenset(control.to_name for control in controls)
        masked = frozenset(control.to_name for control in controls if control.masked)
        self._drawn = drawn_regions(task, to_names, masked) if to_names else []

    def of(self, control: ControlTag, shown: _Shown) -> tuple[ImageRef, ...]:
        """The regions a control asks about, as images.

        Raises:
            ItemError: too many on its `<Image>`, that image is missing, or it is not told which image of a gallery they
                are on.
        """
        (tag,) = control.images
        drawn = [one for one in self._drawn if one.to_name == control.to_name]
        if len(drawn) > MAX_REGIONS:
            raise ItemError(
                f"<Image name={tag.name!r}> has {len(drawn):,} regions, at most {MAX_REGIONS:,} are labelled"
            )
        pictures = shown.of(control)
        images = []
        for one in drawn:
            if not one.is_meant(control):
                continue
            if one.item is None and len(pictures) > 1 and not tag.is_list:
                # Only under valueList does Label Studio store which image a region was drawn on.
                raise ItemError(
                    f"the task's {tag.key!r} holds several images, and its regions do not say which they are on: "
                    f'<Image name="{tag.name}" valueList="${tag.key}"> keeps that'
                )
            if 0 <= (one.item or 0) < len(pictures):
                images.append(one.of(pictures[one.item or 0], masked=control.masked))
        return tuple(images)


def _options(data: Mapping[str, Any], control: ControlTag) -> Options:
    """The labels a task brings for a control.

    Raises:
        ItemError: none, or they cannot be used.
    """
    brought = _lookup(data, control.options)
    if brought is None:
        raise ItemError(f"the task's data has no {control.options!r}, the labels of {control.from_name!r}")
    taken = frozenset(label.name for label in control.taxonomy.labels)
    try:
        return options_of_data(brought, deep=control.deep, taken=taken)
    except ItemError as error:
        raise ItemError(f"the task's {control.options!r} {error}") from None


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
