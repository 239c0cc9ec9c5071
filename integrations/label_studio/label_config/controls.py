"""One control tag: what it asks about which images, when it is shown, and how it wants to be answered."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

from ....schemas.errors import ConfigError
from ....schemas.taxonomy import Choice, Label, LabelPath, Taxonomy
from .choices import answers_of, labels_of_tags, threshold_of
from .conditions import Condition, RegionFilter, conditions, region_filters
from .region_tags import RegionTag, why_none
from .xml import Node, attribute, flag, tag_of, written

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


Kind = Literal["choices", "taxonomy"]
"""A control tag's name in lower case: also the `type` and the value key of its results."""

SCORED = ("choices", "taxonomy")
"""Control tags that can be pre-labelled."""

_VARIABLE = re.compile(r"\$(\S+)")
_TEXT_FROM_DATA = re.compile(r"\$[A-Za-z_]")


class Skip(Exception):
    """This control cannot be pre-labelled; the message is the reason."""


class ImageTag(NamedTuple):
    """An `<Image>`: its name, the key of its data in a task, and whether it pages through a list of images.

    Without `is_list` the data may be a list all the same: Label Studio shows it as a gallery.
    """

    name: str
    key: str
    is_list: bool


@dataclass(frozen=True)
class ControlTag:
    """One control tag that can be pre-labelled.

    Attributes:
        from_name: the control's `name`.
        to_name: name of the `<Image>` its answers are stored under: the first it is about.
        kind: "choices" or "taxonomy".
        taxonomy: its labels; open when each task brings labels.
        answers: for every path of the taxonomy what Label Studio stores: aliases where there are any, else values.
        images: every `<Image>` it is about, in the order of `toName="left,right"`.
        nested: `<Choices allowNested="true">`: an answer is a path, not a name.
        leafs_only: only leaves can be answered. True for `<Taxonomy leafsOnly="true">` and for nested choices:
            Label Studio's editor shows a parent choice as set exactly when all of its children are.
        per: asked once for the task's image or images, once for each image of a list, or for each region.
        regions: which regions, where it is asked for each.
        masked: of a region only what lies in its outline is looked at.
        options: key of the labels in a task's data; empty when they stand in the label config.
        conditions: what other answers it is shown for; all must hold.
    """

    from_name: str
    to_name: str
    kind: Kind
    taxonomy: Taxonomy
    answers: Mapping[LabelPath, LabelPath]
    images: tuple[ImageTag, ...]
    nested: bool = False
    leafs_only: bool = False
    per: Literal["task", "item", "region"] = "task"
    regions: tuple[RegionFilter, ...] = ()
    masked: bool = False
    options: str = ""
    conditions: tuple[Condition, ...] = ()

    @cached_property
    def parents(self) -> frozenset[LabelPath]:
        """The paths that are no leaves, among those in the label config."""
        return frozenset(path[:-1] for path in self.answers)

    @property
    def over(self) -> Literal["each", "all"]:
        """See `Control.over`."""
        return "all" if self.per == "task" else "each"

    @property
    def image_name(self) -> str:
        """Name of the item's images it is about: that of the `<Image>`s, or one for its regions that are meant."""
        if self.per != "region":
            return ",".join(image.name for image in self.images)
        filters = sorted(f"{one.tag}={','.join(sorted(one.labels))}" for one in self.regions)
        return " ".join([f"{'masked ' if self.masked else ''}regions of {self.to_name}", *filters])

    @property
    def deep(self) -> bool:
        """Whether choices inside choices count; without allowNested Label Studio's editor does not show them."""
        return self.nested or self.kind == "taxonomy"

    @property
    def bulk(self) -> bool:
        """Whether Label Studio's bulk import takes its answers.

        It refuses nested choices, of labels that come with the task those beside labels in the label config, and an
        empty alias, which the editor stores all the same.
        """
        has_empty = any("" in answer for answer in self.answers.values())
        return not self.nested and not has_empty and not (self.options and self.answers)

    @property
    def form(self) -> str:
        """12 hex digits that change when the same chosen labels are written or shown differently."""
        content = [
            self.kind,
            self.to_name,
            self.images[0].key,
            self.images[0].is_list,
            self.nested,
            self.leafs_only,
            self.per,
            self.options,
            sorted(self.conditions),
            sorted(pair for pair in self.answers.items() if pair[0] != pair[1]),
            *self.images[1:],
            *(["masked"] if self.masked else []),
        ]
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()[:12]

    def answers_of(self, labels: tuple[Label, ...]) -> Mapping[LabelPath, LabelPath]:
        """`answers` for a task that brings these labels."""
        return {**self.answers, **answers_of(labels)} if labels else self.answers


def read_images(nodes: list[Node]) -> tuple[dict[str, ImageTag], dict[str, str]]:
    """The usable images by name, and the other tags that show data: name -> why prelabel cannot look at it."""
    images: dict[str, ImageTag] = {}
    unusable: dict[str, str] = {}
    for element, _ in nodes:
        name = written(element, "name") or ""
        if not name.strip() or tag_of(element) in SCORED:
            continue
        if tag_of(element) != "image":
            if attribute(element, "value") or attribute(element, "valueList"):
                unusable.setdefault(name, f"it is about <{element.tag}>, only <Image> is supported")
            continue
        value_list = attribute(element, "valueList")
        variable = _VARIABLE.fullmatch(value_list or attribute(element, "value"))
        if variable is None:
            unusable[name] = f'<Image name="{name}"> needs value="$variable" or valueList="$variable"'
        elif name in images:
            unusable[name] = f"the label config has two <Image> tags named {name!r}"
        else:
            images[name] = ImageTag(name, variable.group(1), is_list=bool(value_list))
    return {name: image for name, image in images.items() if name not in unusable}, unusable


def read_control(
    node: Node, images: Mapping[str, ImageTag], unusable: Mapping[str, str], region_tags: Sequence[RegionTag]
) -> ControlTag:
    """A control tag.

    Args:
        node: the tag.
        images: see `read_images`.
        unusable: see `read_images`.
        region_tags: the tags that draw or label regions.

    Raises:
        Skip: it has to be answered by people.
    """
    try:
        return _read_control(node, images, unusable, region_tags)
    except ConfigError as error:  # its neighbours are answered all the same
        raise Skip(str(error)) from None


def _read_control(
    node: Node, images: Mapping[str, ImageTag], unusable: Mapping[str, str], region_tags: Sequence[RegionTag]
) -> ControlTag:
    element, name = node.element, written(node.element, "name") or ""
    if any(tag_of(outer) == "repeater" for outer in node.around):
        raise Skip('it stands in a <Repeater>, which makes many of it: a list of images is <Image valueList="$…">')
    kind: Kind = "taxonomy" if tag_of(element) == "taxonomy" else "choices"
    about = _images(element, name, images, unusable)
    options = _options(element)
    if kind == "choices":
        choice, most = _choice(element, name), None
        nested = leafs_only = flag(element, "allowNested")
    else:
        choice, most = _taxonomy_choice(element, name)
        nested, leafs_only = False, flag(element, "leafsOnly")
    labels = labels_of_tags(element, deep=nested or kind == "taxonomy", where=name)
    if not labels and not options:
        raise Skip(f"there is no <Choice> in <{element.tag}>")
    answers = answers_of(labels)
    if any(_TEXT_FROM_DATA.search(part) for path in answers for part in path):
        raise Skip('the texts of its choices come from the task data: use value="$…" of the control for that')
    threshold = threshold_of(attribute(element, "model_score_threshold"), f"control {name!r}")
    may_be_tree = bool(options) or any(label.children for label in labels)
    if threshold is None and leafs_only and may_be_tree and choice == "single":
        threshold = 0.0  # always down to a leaf
    try:
        taxonomy = Taxonomy.flat(labels, choice=choice, threshold=threshold, max_answers=most, is_open=bool(options))
    except ConfigError as error:
        raise ConfigError(f"control {name!r}: {error}") from None
    per = _per(element, about)
    regions = region_filters(node) if per == "region" else ()
    if per == "region" and (reason := why_none(about[0].name, regions, region_tags)):
        raise Skip(reason)
    return ControlTag(
        from_name=name,
        to_name=about[0].name,
        kind=kind,
        taxonomy=taxonomy,
        answers=answers,
        nested=nested,
        leafs_only=leafs_only,
        images=about,
        per=per,
        regions=regions,
        masked=per == "region" and flag(element, "model_mask_background"),
        options=options,
        conditions=tuple(condition for tag in (*node.around, element) for condition in conditions(tag)),
    )


def _images(
    element: Element, name: str, images: Mapping[str, ImageTag], unusable: Mapping[str, str]
) -> tuple[ImageTag, ...]:
    """The images named in `toName`, which is one name or several between commas; each once."""
    if not name.strip():
        raise Skip("it has no name")
    if flag(element, "model_skip"):
        raise Skip('model_skip="true"')
    if not images and not unusable:
        raise Skip("the label config has no <Image>")
    named: dict[str, ImageTag] = {}
    for piece in (written(element, "toName") or "").split(","):
        # Label Studio takes a name as it stands between the commas, and refuses a config where that is none.
        to_name = piece if piece in images or piece in unusable else piece.strip()
        if to_name in unusable:
            raise Skip(unusable[to_name])
        if to_name not in images:
            raise Skip(f"toName={to_name!r} is not an <Image> of the label config")
        named[to_name] = images[to_name]
    return tuple(named.values())


def _options(element: Element) -> str:
    """The data key of the labels a task brings along; empty when there are none."""
    if attribute(element, "apiUrl"):
        raise Skip(
            "its labels come from apiUrl, which the browser asks and prelabel does not: "
            'write them as <Choice> tags, or give each task its own with value="$…"'
        )
    dynamic = attribute(element, "value")
    if not dynamic:
        return ""
    variable = _VARIABLE.fullmatch(dynamic)
    if variable is None:
        raise Skip(f"its value={dynamic!r} names no task data: write $ before the name")
    return variable.group(1)


_PER: tuple[tuple[str, Literal["region", "item"]], ...] = (("perRegion", "region"), ("perItem", "item"))


def _per(element: Element, about: tuple[ImageTag, ...]) -> Literal["task", "item", "region"]:
    for name, per in _PER:
        if flag(element, name):
            if len(about) > 1:
                raise Skip(f'{name}="true" needs one name in toName: with several, Label Studio shows it for none')
            return per
    return "task"


def _choice(element: Element, name: str) -> Choice:
    choice = attribute(element, "choice") or "single"
    if choice not in ("single", "single-radio", "multiple"):
        raise ConfigError(f"control {name!r}: choice={choice!r} must be single, single-radio or multiple")
    return "multiple" if choice == "multiple" else "single"


def _taxonomy_choice(element: Element, name: str) -> tuple[Choice, int | None]:
    """How many paths to answer. People may always pick several, but most trees have one right place."""
    text = attribute(element, "maxUsages")
    most = int(text) if text.isascii() and text.isdigit() and 0 < int(text) < 10**6 else None
    told = attribute(element, "choice")
    choice = _choice(element, name) if told else "multiple" if most and most > 1 else "single"
    if most == 1:
        choice = "single"
    return choice, most if choice == "multiple" else None
