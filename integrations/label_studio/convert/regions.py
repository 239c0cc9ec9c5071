"""Regions people or other models have drawn, as images to be labelled one by one.

One source counts: the newest annotation that has such regions, else the newest draft, else the newest prediction of
another model. Boxes of several people would be the same objects twice, and our own predictions hold mere copies of
regions that may be gone by now.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ....schemas import ImageRef, ModelVersion, Origin, Region
from ..label_config.config import ControlTag

MAX_REGIONS = 500
"""Regions of one `<Image>` of a task that are labelled."""

_GEOMETRY = ("x", "y", "width", "height", "rotation")
_BOXES = ("rectanglelabels", "rectangle")
_LABELS = ("rectanglelabels", "labels")
_KEPT = ("id", "from_name", "to_name", "type", "original_width", "original_height", "image_rotation", "item_index")


class Drawn(NamedTuple):
    """One region of a task.

    Attributes:
        to_name: the `<Image>` it is on.
        item: which image of a list; None where Label Studio does not say.
        made_by: for each tag that made it or labels it, the labels (none for a bare rectangle).
        region: the box; within the image, unless it is rotated.
        origin: its id and what Label Studio stores of it.
    """

    to_name: str
    item: int | None
    made_by: tuple[tuple[str, tuple[str, ...]], ...]
    region: Region
    origin: Origin

    def is_meant(self, control: ControlTag) -> bool:
        """Whether a control is shown for it."""
        return self.to_name == control.to_name and all(
            any(one.takes(tag, labels) for tag, labels in self.made_by) for one in control.regions
        )

    def of(self, image: ImageRef) -> ImageRef:
        """It as an image of an item: this part of that image."""
        return image.model_copy(update={"region": self.region, "origin": self.origin})


def drawn_regions(task: Mapping[str, Any], to_names: frozenset[str]) -> list[Drawn]:
    """The boxes on these images that count.

    Args:
        task: with `annotations`, `drafts` and `predictions` as far as Label Studio sends them.
        to_names: names of the images.
    """
    for source in _sources(task):
        boxes = _boxes(source, to_names)
        if boxes:
            return boxes
    return []


def _sources(task: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
    """Result lists, the one to be preferred first."""
    for key in ("annotations", "drafts", "predictions"):
        results = task.get(key)
        entries = [entry for entry in results if isinstance(entry, Mapping)] if isinstance(results, list) else []
        for entry in sorted(entries, key=_age, reverse=True):
            theirs = not (key == "predictions" and ModelVersion.is_ours(str(entry.get("model_version") or "")))
            if theirs and not entry.get("was_cancelled") and isinstance(entry.get("result"), list):
                yield entry["result"]


def _age(entry: Mapping[str, Any]) -> tuple[str, int]:
    number = entry.get("id")
    when = entry.get("updated_at") or entry.get("created_at") or ""
    return str(when), number if isinstance(number, int) else 0


def _boxes(result: Sequence[Any], to_names: frozenset[str]) -> list[Drawn]:
    by_id: dict[str, list[Mapping[str, Any]]] = {}
    for entry in result:
        if not isinstance(entry, Mapping):
            continue
        to_name = entry.get("to_name")
        if not isinstance(to_name, str) or to_name not in to_names:
            continue
        is_ours = entry.get("type") in _BOXES or entry.get("type") in _LABELS
        if is_ours and isinstance(entry.get("id"), str) and entry["id"] and isinstance(entry.get("value"), Mapping):
            by_id.setdefault(entry["id"], []).append(entry)
    drawn = []
    for number, entries in by_id.items():
        box = next((entry for entry in entries if entry["type"] in _BOXES), None)
        region = _region(box["value"]) if box else None
        if box and region:
            item = box.get("item_index")
            drawn.append(
                Drawn(
                    to_name=box["to_name"],
                    item=item if isinstance(item, int) and not isinstance(item, bool) else None,
                    made_by=tuple((str(entry.get("from_name")), _labels(entry)) for entry in entries),
                    region=region,
                    origin=Origin(id=number, stored=_as_json(entries)),
                )
            )
    return drawn


def _labels(entry: Mapping[str, Any]) -> tuple[str, ...]:
    labels = entry["value"].get(entry["type"])
    return tuple(label for label in labels if isinstance(label, str)) if isinstance(labels, list) else ()


def _region(value: Mapping[str, Any]) -> Region | None:
    """The box; None when it has no area in the image. Dragged beyond the edge, it is cut off there."""
    numbers = [value.get(name, 0.0 if name == "rotation" else None) for name in _GEOMETRY]
    if any(isinstance(n, bool) or not isinstance(n, int | float) or not math.isfinite(n) for n in numbers):
        return None
    x, y, width, height, rotation = map(float, numbers)
    if rotation % 360 == 0:
        right, bottom = min(x + width, 100.0), min(y + height, 100.0)
        x, y = max(x, 0.0), max(y, 0.0)
        width, height = right - x, bottom - y
    inside = 0.0 <= x <= 100.0 and 0.0 <= y <= 100.0
    if not inside or not 0.0 < width <= 100.0 or not 0.0 < height <= 100.0:
        return None
    return Region(x=x, y=y, width=width, height=height, rotation=rotation)


def _as_json(entries: Sequence[Mapping[str, Any]]) -> str:
    """The region's own results as JSON, without what people or models have said about it besides."""
    kept = []
    for entry in entries:
        value = {name: entry["value"][name] for name in (*_GEOMETRY, entry["type"]) if name in entry["value"]}
        kept.append({**{name: entry[name] for name in _KEPT if name in entry}, "value": value})
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))
