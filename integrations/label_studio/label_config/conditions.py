"""When a control asks: the regions it is about, and the answers it is shown for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .xml import Node, attribute, parts, written

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


class RegionFilter(NamedTuple):
    """Which regions a control is shown for: those made by this tag (empty: any), with one of these labels (if any)."""

    tag: str = ""
    labels: tuple[str, ...] = ()

    def takes(self, tag: str, labels: tuple[str, ...]) -> bool:
        """Whether a region of this tag and with these labels is meant."""
        return (not self.tag or self.tag == tag) and (not self.labels or bool(set(self.labels) & set(labels)))


class Condition(NamedTuple):
    """What other answers a control is shown for.

    Attributes:
        control: whose answers; empty: any `<Choices>`.
        values: one of these must be among them; none: anything.
        selected: False: shown as long as that is not so.
    """

    control: str
    values: tuple[str, ...]
    selected: bool


def region_filters(node: Node) -> tuple[RegionFilter, ...]:
    """Which regions the control is shown for, said by itself and by what stands around it."""
    filters = []
    for element in (*node.around, node.element):
        is_view = element is not node.element
        if is_view and attribute(element, "visibleWhen") != "region-selected":
            continue
        if attribute(element, "visibleWhen") in ("choice-selected", "choice-unselected"):
            continue  # the names belong to that
        label = attribute(element, "whenLabelValue")
        several = parts(label, ",")
        labels = several if label in several else (*several, *parts(label, "\0"))  # a label may hold a comma itself
        one = RegionFilter(attribute(element, "whenTagName"), labels)
        if one != RegionFilter():
            filters.append(one)
    return tuple(filters)


def conditions(element: Element) -> list[Condition]:
    """What hides a tag, as Label Studio's editor has it."""
    when, values = attribute(element, "visibleWhen"), written(element, "whenChoiceValue") or ""
    if when in ("choice-selected", "choice-unselected"):
        control = written(element, "whenTagName") or ""
        # The editor compares what stands between the commas as it stands; without a tag's name it does not look at it.
        wanted = tuple(value for value in values.split(",") if value) if control else ()
        return [Condition(control, wanted, when == "choice-selected")]
    if not when and values:
        return [Condition("", (values,), selected=True)]
    return []
