"""Label configs: which questions a Label Studio project asks about which images, and how it wants them answered.

Supported are `<Choices>` and `<Taxonomy>` over `<Image>`: about one image, a list of images (`valueList`) as a whole or
each on its own (`perItem`), or each region of it (`perRegion`). Every other control is left to people; those that
look like ours but cannot be pre-labelled are kept in `LabelConfig.skipped` with the reason.

Read from the XML (tag and attribute names in any case):

- control: `name`, `toName`, `choice`, `allowNested`, `leafsOnly`, `maxUsages`, `perRegion`, `perItem`, `value` (labels
  that come with the task), what it is shown for (`visibleWhen`, `whenTagName`, `whenLabelValue`, `whenChoiceValue`),
  the knobs Label Studio's ML examples use, `model_score_threshold` (0..1) and `model_skip`, and
  `model_mask_background`: of a region only what lies in its outline is looked at;
- tags that draw regions: `name`, `toName`;
- `<Choice>`: see `choices`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from ....schemas.errors import ConfigError
from ....schemas.jobs import Control
from ....schemas.taxonomy import Taxonomy
from ....schemas.wire import brief, kind_of
from .conditions import Condition
from .controls import SCORED, ControlTag, ImageTag, Kind, Skip, read_control, read_images
from .region_tags import read_region_tags
from .xml import parse_xml, tag_of, walk, written

__all__ = ["Condition", "ControlTag", "ImageTag", "Kind", "LabelConfig"]


MAX_CONTROLS = 1_000
"""Controls of one label config; the longest ever seen had some dozens."""


@dataclass(frozen=True)
class LabelConfig:
    """What can be pre-labelled in one label config.

    Attributes:
        controls: usable control tags in document order; never empty.
        images: name of each `<Image>` the controls ask about -> key in the task's data (`value="$image"` -> "image").
        skipped: (control name, reason) of control tags that people have to answer.
    """

    controls: tuple[ControlTag, ...]
    images: Mapping[str, str]
    skipped: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, xml: str) -> Self:
        """Read a label config.

        Raises:
            ConfigError: not XML, or nothing in it can be pre-labelled; the message says why, control by control.
        """
        nodes = list(walk(parse_xml(xml), SCORED))
        images, unusable = read_images(nodes)
        tags = [node for node in nodes if tag_of(node.element) in SCORED]
        if len(tags) > MAX_CONTROLS:
            raise ConfigError(f"the label config has {len(tags):,} controls, at most {MAX_CONTROLS:,} are read")
        if not tags:
            raise ConfigError("the label config has no <Choices> or <Taxonomy> tag: there is nothing to pre-label")
        region_tags = read_region_tags(nodes)
        names = [written(node.element, "name") or "" for node in tags]
        count = Counter(names)
        controls: list[ControlTag] = []
        skipped: list[tuple[str, str]] = []
        for node, name in zip(tags, names, strict=True):
            try:
                if name and count[name] > 1:
                    raise Skip("several controls of the label config share this name")
                controls.append(read_control(node, images, unusable, region_tags))
            except Skip as reason:
                skipped.append((name or f"<{node.element.tag}>", str(reason)))
        skipped = list(dict.fromkeys(skipped))
        _skip_what_waits_for_people(controls, skipped)
        if not controls:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped)
            raise ConfigError(f"nothing in the label config can be pre-labelled: {reasons}")
        asked = {image.name for control in controls for image in control.images}
        keys = {name: image.key for name, image in images.items() if name in asked}
        return cls(tuple(controls), keys, tuple(skipped))

    def control(self, name: str | None = None) -> ControlTag:
        """The control called `name`, or the only one.

        Raises:
            ConfigError: no such control, or several and none named; lists the names.
        """
        names = ", ".join(control.from_name for control in self.controls)
        if name is None:
            if len(self.controls) == 1:
                return self.controls[0]
            raise ConfigError(f"the label config has several controls, name one of: {names}")
        if not isinstance(name, str):
            raise ConfigError(f"a control's name is a text, not {kind_of(name)}; it has: {names}")
        for control in self.controls:
            if control.from_name == name:
                return control
        reason = dict(self.skipped).get(name)
        if reason:
            raise ConfigError(f"control {brief(name)} cannot be pre-labelled: {reason}")
        raise ConfigError(f"the label config has no control {brief(name)}, it has: {names}")

    def taxonomy(self, control: str | None = None) -> Taxonomy:
        """What the control called `control`, or the only one, may be answered with.

        Raises:
            ConfigError: no such control, several and none named, or labels that come with the task.
        """
        chosen = self.control(control)
        if chosen.taxonomy.is_open:
            raise ConfigError(f"the labels of control {chosen.from_name!r} come with each task ({chosen.options})")
        return chosen.taxonomy

    def to_controls(self) -> tuple[Control, ...]:
        """The questions as a job asks them."""
        return tuple(
            Control(
                name=control.from_name,
                taxonomy=control.taxonomy,
                image=control.image_name,
                over=control.over,
                form=control.form,
            )
            for control in self.controls
        )


def _skip_what_waits_for_people(controls: list[ControlTag], skipped: list[tuple[str, str]]) -> None:
    """Leave out controls that are shown for answers only people give."""
    known = {control.from_name for control in controls}
    waiting: dict[str, list[ControlTag]] = {}
    for control in controls:
        for condition in control.conditions:
            if condition.control and condition.selected:
                waiting.setdefault(condition.control, []).append(control)
    unanswered = [other for other in waiting if other not in known]
    reasons: dict[str, str] = {}
    for other in unanswered:  # grows while controls are left out
        for control in waiting.get(other, ()):
            if control.from_name not in reasons:
                reasons[control.from_name] = f"it is shown for answers to {other!r}, which people give"
                unanswered.append(control.from_name)
    skipped += reasons.items()
    controls[:] = [control for control in controls if control.from_name not in reasons]
