"""Regions people or other models have drawn, as images to be labelled one by one.

One source counts: the newest annotation that has such regions, else the newest draft, else the newest prediction of
another model. Regions of several people would be the same objects twice, and our own predictions hold mere copies of
regions that may be gone by now.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ....schemas import ImageRef, ModelVersion, Origin
from ..label_config.config import ControlTag
from ..label_config.region_tags import LABELS, shape_of
from .copies import Entries, as_json, digest, origin_of
from .painted import Work
from .shapes import Cut, ShapeError, cut_of

MAX_REGIONS = 500
"""Regions of one `<Image>` of a task that are labelled."""

_ABOUT_REGIONS = ("choices", "taxonomy", "textarea", "rating", "number", "datetime", "pairwise", "ranker")
"""Types of results that say something about a region and draw none."""


class Drawn(NamedTuple):
    """One region of a task.

    Attributes:
        to_name: the `<Image>` it is on.
        item: which image of a list; None where Label Studio does not say.
        made_by: for each tag that made it or labels it, the labels (none for a bare rectangle).
        cut: what is cut out for it; None when nothing can be.
        origin: its id and what Label Studio stores of it.
        problem: why nothing can be cut out; empty when it can.
    """

    to_name: str
    item: int | None
    made_by: tuple[tuple[str, tuple[str, ...]], ...]
    cut: Cut | None
    origin: Origin
    problem: str = ""

    def is_meant(self, control: ControlTag) -> bool:
        """Whether a control is shown for it."""
        return self.to_name == control.to_name and all(
            any(one.takes(tag, labels) for tag, labels in self.made_by) for one in control.regions
        )

    def of(self, image: ImageRef, *, masked: bool) -> ImageRef:
        """It as an image of an item: this part of that image, or why there is none.

        Args:
            image: the image it is on.
            masked: whether only what lies in its outline counts.
        """
        if self.cut is None and not image.problem:
            return ImageRef.unusable(self.problem, name=image.name).model_copy(update={"origin": self.origin})
        region = self.cut.region if self.cut else None
        if self.cut and self.cut.mask and masked:
            region = self.cut.region.model_copy(update={"mask": self.cut.mask})
        return image.model_copy(update={"region": region, "origin": self.origin})


def drawn_regions(
    task: Mapping[str, Any], to_names: frozenset[str], masked: frozenset[str] = frozenset()
) -> list[Drawn]:
    """The regions on these images that count.

    A source counts that has one that can be cut out, where there is such a source.

    Args:
        task: with `annotations`, `drafts` and `predictions` as far as Label Studio sends them.
        to_names: names of the images.
        masked: of which of them the regions' masks are wanted.
    """
    first: list[Drawn] = []
    work = Work()
    for source in _sources(task):
        drawn = [_drawn(one, masked, work) for one in by_region(source) if one.to_name in to_names]
        if any(one.cut for one in drawn):
            return drawn
        first = first or drawn
    return first


def copies_of(task: Mapping[str, Any], digests: Collection[str]) -> dict[str, Entries]:
    """The results of those regions of a task that have these digests, as they stand in Label Studio now.

    Args:
        task: see `drawn_regions`.
        digests: see `Origin.digest`.
    """
    found: dict[str, Entries] = {}
    for source in _sources(task):
        for one in by_region(source):
            stored = as_json(one.entries)
            if (known := digest(stored)) in digests:
                found[known] = json.loads(stored)
        if len(found) == len(digests):
            break
    return found


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


class _Results(NamedTuple):
    """The results that draw one region or label it."""

    to_name: str
    entries: tuple[Mapping[str, Any], ...]


def by_region(result: Sequence[Any]) -> list[_Results]:
    """The regions of a result list, in order."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for entry in result:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("value"), Mapping):
            continue
        to_name, number, kind = entry.get("to_name"), entry.get("id"), entry.get("type")
        if not isinstance(to_name, str) or not isinstance(number, str) or not number or not isinstance(kind, str):
            continue
        if shape_of(kind) or kind == LABELS or ("original_width" in entry and kind not in _ABOUT_REGIONS):
            found.setdefault((to_name, number), []).append(entry)
    return [_Results(to_name, tuple(entries)) for (to_name, _), entries in found.items()]


def _drawn(results: _Results, masked: frozenset[str], work: Work) -> Drawn:
    entries = results.entries
    drawing = next((entry for entry in entries if shape_of(entry["type"])), entries[0])
    shape = shape_of(drawing["type"])
    cut, problem = None, ""
    try:
        if shape is None:
            raise ShapeError("nothing says what its shape is")
        cut = cut_of(shape, drawing, masked=results.to_name in masked, work=work)
    except ShapeError as error:
        problem = f"the region {drawing['id'][:20]} ({drawing['type'][:30]}) cannot be cut out: {error}"
    item = drawing.get("item_index")
    return Drawn(
        to_name=results.to_name,
        item=item if isinstance(item, int) and not isinstance(item, bool) else None,
        made_by=tuple((str(entry.get("from_name")), _labels(entry)) for entry in entries),
        cut=cut,
        origin=origin_of(entries),
        problem=problem,
    )


def _labels(entry: Mapping[str, Any]) -> tuple[str, ...]:
    labels = entry["value"].get(entry["type"])
    return tuple(label for label in labels if isinstance(label, str)) if isinstance(labels, list) else ()
