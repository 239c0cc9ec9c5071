"""Our predictions as Label Studio's: one result for each control that is shown."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from ....schemas import Answer, ConfigError, Item, ItemError, Origin, Prediction
from ....schemas.taxonomy import LabelPath
from ..label_config.config import Condition, ControlTag, LabelConfig
from .copies import Entries


class Place(NamedTuple):
    """Where in a task's form an answer stands.

    Attributes:
        control: the control's name.
        image: which image of a list it is about, from 0, where each has its own answer.
        region: the id of the region it is about.
    """

    control: str
    image: int | None = None
    region: str | None = None


class ShownAnswer(NamedTuple):
    """What Label Studio's form shows for one control.

    Attributes:
        paths: the chosen labels; empty when nothing is.
        stored: the same as Label Studio stores them: aliases where there are any.
        confidence: 0..1.
    """

    paths: tuple[LabelPath, ...]
    stored: tuple[LabelPath, ...]
    confidence: float


def shown_answers(prediction: Prediction, config: LabelConfig) -> dict[Place, ShownAnswer]:
    """The answers of a prediction that the form shows, in the order of the label config; none of a failed item."""
    return {
        one.place: ShownAnswer(tuple(one.paths), tuple(one.stored), _score(one.answer.confidence))
        for one in _shown(prediction, config)
    }


def prediction_to_label_studio(
    prediction: Prediction, config: LabelConfig, copies: Mapping[str, Entries] | None = None
) -> dict[str, Any] | None:
    """The prediction as Label Studio takes it: `{"task", "result", "score", "model_version"}`.

    `score` is the lowest confidence among the controls that are shown, chosen or not: Label Studio's uncertainty
    sampling serves the lowest score first, and a task is as doubtful as its weakest answer. It is always a number from
    0 to 1: Label Studio cannot open a task whose prediction has another.

    Args:
        prediction: of one task.
        config: the label config it was scored with.
        copies: the results of regions that are too large to travel, by digest: `copies_left_out` says of which. What
            was said about a region that is not among them is left out.

    Returns:
        None when there is nothing to show (the item failed or no control chose anything): Label Studio stores an
        empty `result` and then asks no more for this task.

    Raises:
        ItemError: there is nothing to show any more, for all regions that were labelled have changed or are gone.
    """
    if not prediction.ok:
        return None
    shown = _shown(prediction, config)
    drawn: dict[str, Entries] = {}
    result = []
    lost: list[_Shown] = []
    for one in shown:
        if not one.values:
            continue
        if one.origin:
            copy = _copy(one.origin, copies or {})
            if copy is None:
                lost.append(one)
                continue
            drawn[one.origin.id] = copy
        result.append(one.entry())
    if lost and not result:
        raise ItemError("the regions that were labelled have changed since, or are gone")
    if not result:
        return None
    return {
        "task": int(prediction.item.id),
        # Regions first: what refers to an id finds it there.
        "result": [entry for copy in drawn.values() for entry in copy] + result,
        "score": min(_score(one.answer.confidence) for one in shown if one not in lost),
        "model_version": prediction.model_version,
    }


def copies_left_out(prediction: Prediction, config: LabelConfig) -> frozenset[str]:
    """The digests of the regions a prediction is about whose results did not travel with it; see `Origin`."""
    if not prediction.ok or not any(image.origin and image.origin.digest for image in prediction.item.images):
        return frozenset()
    shown = (one.origin for one in _shown(prediction, config) if one.values)
    return frozenset(origin.digest for origin in shown if origin and origin.digest)


def _copy(origin: Origin, copies: Mapping[str, Entries]) -> Entries | None:
    if origin.digest:
        return copies.get(origin.digest)
    entries: Entries = json.loads(origin.stored)
    return entries


class _Shown:
    """An answer that Label Studio's editor may show."""

    def __init__(self, answer: Answer, control: ControlTag, item: Item) -> None:
        self.answer = answer
        self.control = control
        self.image = item.images_of(control.image_name)[answer.index] if answer.index is not None else None
        options = item.options.get(control.from_name)
        answers = control.answers_of(options.labels) if options else control.answers
        parents = frozenset(path[:-1] for path in answers) if options else control.parents
        self.paths = [path for path in answer.paths if path in answers and not (control.leafs_only and path in parents)]
        self.stored = [answers[path] for path in self.paths]

    @property
    def origin(self) -> Origin | None:
        """The region it is about."""
        return self.image.origin if self.image else None

    @property
    def region(self) -> str | None:
        """The id of the region it is about."""
        return self.origin.id if self.origin else None

    @property
    def place(self) -> Place:
        """Where it stands."""
        image = self.answer.index if self.control.per == "item" else None
        return Place(self.control.from_name, image, self.region)

    @property
    def values(self) -> list[Any]:
        """What is chosen, as Label Studio stores it."""
        if self.control.kind == "taxonomy" or self.control.nested:
            return [list(path) for path in self.stored]
        return [path[-1] for path in self.stored]

    @property
    def names(self) -> set[str]:
        """What is chosen, by name and by alias."""
        return {path[-1] for path in (*self.paths, *self.stored)}

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
    answered = []
    for answer in prediction.answers:
        try:
            control = config.control(answer.control)
        except ConfigError:  # the label config has changed since
            continue
        if answer.index is None or answer.index < len(prediction.item.images_of(control.image_name)):
            answered.append(_Shown(answer, control, prediction.item))
    return [one for one in answered if _is_shown(one, answered, ())]


def _is_shown(one: _Shown, others: list[_Shown], asking: tuple[_Shown, ...]) -> bool:
    """Whether its conditions hold. What is hidden hides nothing; of controls that wait for each other all are shown."""
    if one in asking:
        return True
    return all(_holds(condition, one, others, (*asking, one)) for condition in one.control.conditions)


def _holds(condition: Condition, one: _Shown, others: list[_Shown], asking: tuple[_Shown, ...]) -> bool:
    wanted = set(condition.values)
    holds = any(
        (other.names & wanted if wanted else other.names) and _is_shown(other, others, asking)
        for other in others
        if other is not one
        and other.region in (None, one.region)
        and (other.control.from_name == condition.control if condition.control else other.control.kind == "choices")
    )
    return holds is condition.selected


def _score(confidence: float) -> float:
    return round(min(max(confidence, 0.0), 1.0), 4) if math.isfinite(confidence) else 0.0
