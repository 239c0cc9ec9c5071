"""The tags people draw regions of an image with, and which of them can be cut out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from .conditions import RegionFilter
from .xml import Node, tag_of, written

Shape = Literal["rectangle", "ellipse", "polygon", "keypoint", "vector", "brush", "bitmask"]
"""What a region is; also the `type` of its results in Label Studio, where nothing labels it."""

_SHAPES: dict[str, Shape] = {
    "rectangle": "rectangle",
    "ellipse": "ellipse",
    "polygon": "polygon",
    "keypoint": "keypoint",
    "vector": "vector",
    "brush": "brush",
    "magicwand": "brush",
    "bitmask": "bitmask",
}
DRAWING = (
    "<RectangleLabels>, <EllipseLabels>, <PolygonLabels>, <KeyPointLabels>, <VectorLabels>, <BrushLabels>, "
    "<BitmaskLabels>"
)
"""The tags whose regions can be cut out, for messages; each is there without labels, too: `<Rectangle>`."""

LABELS = "labels"
"""The tag that labels regions which others draw."""


class RegionTag(NamedTuple):
    """A tag that draws regions or labels them.

    Attributes:
        name: its name.
        shape: what it draws; None where it only labels.
        images: the names in its `toName`.
    """

    name: str
    shape: Shape | None
    images: tuple[str, ...]


def shape_of(kind: str) -> Shape | None:
    """What a tag in lower case, or the type of a result, draws; None when that is nothing we know.

    `<Labels>` draws nothing: the name of a shape comes before it.
    """
    return _SHAPES.get(kind.removesuffix(LABELS))


def read_region_tags(nodes: Iterable[Node]) -> tuple[RegionTag, ...]:
    """The tags of a label config that draw or label regions."""
    found = []
    for element, _ in nodes:
        tag = tag_of(element)
        shape = shape_of(tag)
        if shape or tag == LABELS:
            names = (written(element, "toName") or "").split(",")
            found.append(RegionTag(written(element, "name") or "", shape, (*names, *map(str.strip, names))))
    return tuple(found)


def why_none(image: str, filters: Sequence[RegionFilter], tags: Sequence[RegionTag]) -> str:
    """Why a control about regions of this image can never be answered; empty when it can.

    Args:
        image: the `<Image>`'s name.
        filters: which of its regions the control is about.
        tags: those of the label config.
    """
    on_it = [tag for tag in tags if image in tag.images]
    if not any(tag.shape for tag in on_it):
        return f"no tag draws regions on <Image name={image!r}> that can be cut out; such are {DRAWING}"
    known = {tag.name.strip() for tag in on_it}
    for one in filters:
        if one.tag and one.tag not in known:
            return f"it is shown for regions of {one.tag!r}, which draws none on <Image name={image!r}> we can cut out"
    return ""
