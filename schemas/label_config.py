"""Label configs: which questions a Label Studio project asks about which images, and how it wants them answered.

Supported are `<Choices>` and `<Taxonomy>` over `<Image>`. Every other control is left to people; those that look
like ours but cannot be pre-labelled are kept in `LabelConfig.skipped` with the reason.

Read from the XML (tag and attribute names in any case):

- control: `name`, `toName`, `choice`, `allowNested`, `leafsOnly`, and the knobs Label Studio's ML examples use,
  `model_score_threshold` (0..1) and `model_skip`;
- `<Choice>`: `value`, `alias` (what Label Studio stores; a synonym when it reads as words), `hint` (description),
  `predicted_values` (synonyms, comma-separated), `model_score_threshold`, and ours: `model_prompt` (the label's own
  prompts, separated by `|`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from .errors import ConfigError
from .jobs import Control
from .taxonomy import Choice, Label, LabelPath, Taxonomy

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

Kind = Literal["choices", "taxonomy"]
"""A control tag's name in lower case: also the `type` and the value key of its results."""

MAX_DEPTH = 32
"""Levels of nested tags read; deeper configs are refused, not walked."""

_SCORED = ("choices", "taxonomy")
_WORDS = re.compile(r"[^\W\d_]{3,}(?:[ '-][^\W\d_]+)*")
_VARIABLE = re.compile(r"\$(\S+)")


class _Skip(Exception):
    """This control cannot be pre-labelled; the message is the reason."""


@dataclass(frozen=True)
class ControlTag:
    """One control tag that can be pre-labelled.

    Attributes:
        from_name: the control's `name`.
        to_name: name of the `<Image>` it is about.
        kind: "choices" or "taxonomy".
        taxonomy: its labels.
        answers: for every path of the taxonomy what Label Studio stores: aliases where there are any, else values.
        nested: `<Choices allowNested="true">`: an answer is a path, not a name.
        leafs_only: only leaves can be answered. True for `<Taxonomy leafsOnly="true">` and for nested choices:
            Label Studio's editor shows a parent choice as set exactly when all of its children are.
    """

    from_name: str
    to_name: str
    kind: Kind
    taxonomy: Taxonomy
    answers: Mapping[LabelPath, LabelPath]
    nested: bool = False
    leafs_only: bool = False


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
        elements = list(_walk(_root(xml), 0))
        images, unusable = _images(elements)
        tags = [element for element in elements if _tag(element) in _SCORED]
        if not tags:
            raise ConfigError("the label config has no <Choices> or <Taxonomy> tag: there is nothing to pre-label")
        _refuse_shared_names(tags)
        controls: list[ControlTag] = []
        skipped: list[tuple[str, str]] = []
        for element in tags:
            name = _attribute(element, "name")
            try:
                controls.append(_control(element, name, images, unusable))
            except _Skip as reason:
                skipped.append((name or f"<{element.tag}>", str(reason)))
        if not controls:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped)
            raise ConfigError(f"nothing in the label config can be pre-labelled: {reasons}")
        asked = {control.to_name for control in controls}
        return cls(tuple(controls), {name: key for name, key in images.items() if name in asked}, tuple(skipped))

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
        for control in self.controls:
            if control.from_name == name:
                return control
        reason = dict(self.skipped).get(name)
        if reason:
            raise ConfigError(f"control {name!r} cannot be pre-labelled: {reason}")
        raise ConfigError(f"the label config has no control {name!r}, it has: {names}")

    def to_controls(self) -> tuple[Control, ...]:
        """The questions as a job asks them.

        `image` is named only when the controls ask about more than one `<Image>`, so an image nobody asks about
        changes neither the item nor the model version.
        """
        several = len(self.images) > 1
        return tuple(
            Control(name=control.from_name, taxonomy=control.taxonomy, image=control.to_name if several else None)
            for control in self.controls
        )


def _root(xml: str) -> Element:
    if not xml.strip():
        raise ConfigError("the label config is empty")
    try:
        root: Element = fromstring(xml.strip(), forbid_dtd=True)
    except DefusedXmlException:
        raise ConfigError("the label config declares a DTD or entities, which Label Studio configs never do") from None
    except ParseError as error:
        raise ConfigError(f"the label config is not well-formed XML: {error}") from None
    except ValueError:
        raise ConfigError("the label config holds characters that XML does not allow") from None
    return root


def _walk(element: Element, depth: int) -> Iterator[Element]:
    if depth > MAX_DEPTH:
        raise ConfigError(f"the label config is nested more than {MAX_DEPTH} levels deep")
    yield element
    if _tag(element) in _SCORED:
        return
    for child in element:
        yield from _walk(child, depth + 1)


def _tag(element: Element) -> str:
    return element.tag.lower() if isinstance(element.tag, str) else ""


def _attribute(element: Element, name: str) -> str:
    value = element.get(name)
    if value is None:
        lower = name.lower()
        value = next((text for key, text in element.items() if key.lower() == lower), "")
    return value.strip()


def _flag(element: Element, name: str) -> bool:
    return _attribute(element, name).lower() == "true"


def _images(elements: list[Element]) -> tuple[dict[str, str], dict[str, str]]:
    """Usable images: name -> data key; and the others: name -> reason."""
    images: dict[str, str] = {}
    unusable: dict[str, str] = {}
    for element in elements:
        name = _attribute(element, "name")
        if not name or _tag(element) in _SCORED:
            continue
        if _tag(element) != "image":
            if _attribute(element, "value"):
                unusable.setdefault(name, f"it is about <{element.tag}>, only <Image> is supported")
        elif _attribute(element, "valueList"):
            unusable[name] = f'<Image name="{name}"> uses valueList, only one image per <Image> is supported'
        elif variable := _VARIABLE.fullmatch(_attribute(element, "value")):
            if name in images:
                raise ConfigError(f"the label config has two <Image> tags named {name!r}")
            images[name] = variable.group(1)
        else:
            unusable[name] = f'<Image name="{name}"> needs value="$variable"'
    return images, unusable


def _refuse_shared_names(tags: list[Element]) -> None:
    counts = Counter(name for tag in tags if (name := _attribute(tag, "name")))
    shared = [name for name, count in counts.items() if count > 1]
    if shared:
        raise ConfigError(f"several controls of the label config share a name: {', '.join(shared)}")


def _control(element: Element, name: str, images: Mapping[str, str], unusable: Mapping[str, str]) -> ControlTag:
    kind: Kind = "taxonomy" if _tag(element) == "taxonomy" else "choices"
    to_name = _attribute(element, "toName")
    _refuse_unsupported(element, name, to_name, images, unusable)
    if kind == "choices":
        choice = _choice(element, name)
        nested = leafs_only = _flag(element, "allowNested")
    else:
        choice, nested, leafs_only = "single", False, _flag(element, "leafsOnly")
    answers: dict[LabelPath, LabelPath] = {}
    # Without allowNested Label Studio's editor does not show the choices inside a <Choice> of <Choices>.
    labels = _labels(element, (), (), answers, deep=nested or kind == "taxonomy", where=name)
    if not labels:
        raise _Skip(f"there is no <Choice> in <{element.tag}>")
    threshold = _threshold(element, f"control {name!r}")
    is_tree = any(label.children for label in labels)
    if threshold is None and leafs_only and is_tree and choice == "single":
        threshold = 0.0  # always down to a leaf
    try:
        taxonomy = Taxonomy.flat(labels, choice=choice, threshold=threshold)
    except ConfigError as error:
        raise ConfigError(f"control {name!r}: {error}") from None
    return ControlTag(name, to_name, kind, taxonomy, answers, nested=nested, leafs_only=leafs_only)


def _refuse_unsupported(
    element: Element, name: str, to_name: str, images: Mapping[str, str], unusable: Mapping[str, str]
) -> None:
    if not name:
        raise _Skip("it has no name")
    if _flag(element, "model_skip"):
        raise _Skip('model_skip="true"')
    if _flag(element, "perRegion"):
        raise _Skip('perRegion="true": labels of regions are not supported yet')
    if _flag(element, "perItem"):
        raise _Skip('perItem="true": lists of images are not supported yet')
    if to_name not in images:
        if to_name in unusable:
            raise _Skip(unusable[to_name])
        if not images and not unusable:
            raise _Skip("the label config has no <Image>")
        raise _Skip(f"toName={to_name!r} is not an <Image> of the label config")
    if _attribute(element, "apiUrl"):
        raise _Skip("its labels come from apiUrl, only <Choice> tags are supported")
    if dynamic := _attribute(element, "value"):
        raise _Skip(f"its labels come from the task data ({dynamic}), only <Choice> tags are supported")


def _choice(element: Element, name: str) -> Choice:
    choice = _attribute(element, "choice") or "single"
    if choice not in ("single", "single-radio", "multiple"):
        raise ConfigError(f"control {name!r}: choice={choice!r} must be single, single-radio or multiple")
    return "multiple" if choice == "multiple" else "single"


def _labels(
    element: Element, path: LabelPath, answer: LabelPath, answers: dict[LabelPath, LabelPath], *, deep: bool, where: str
) -> tuple[Label, ...]:
    if len(path) > MAX_DEPTH:
        raise ConfigError(f"control {where!r} is nested more than {MAX_DEPTH} levels deep")
    labels: list[Label] = []
    for child in _choices(element, 0):
        value = _attribute(child, "value")
        alias = _attribute(child, "alias")
        if not value:
            raise ConfigError(f"control {where!r} has a <Choice> without value")
        here, stored = (*path, value), (*answer, alias or value)
        answers[here] = stored
        children = _labels(child, here, stored, answers, deep=deep, where=where) if deep else ()
        labels.append(
            Label(
                name=value,
                synonyms=_synonyms(child, value, alias),
                description=_attribute(child, "hint") or None,
                prompts=_parts(_attribute(child, "model_prompt"), "|"),
                threshold=_threshold(child, f"control {where!r}, choice {value!r}"),
                children=children,
            )
        )
    return tuple(labels)


def _choices(element: Element, depth: int) -> Iterator[Element]:
    """The `<Choice>` tags of one level; layout tags such as `<View>` around them do not count."""
    if depth > MAX_DEPTH:
        raise ConfigError(f"the label config is nested more than {MAX_DEPTH} levels deep")
    for child in element:
        if _tag(child) == "choice":
            yield child
        else:
            yield from _choices(child, depth + 1)


def _synonyms(element: Element, value: str, alias: str) -> tuple[str, ...]:
    """Other names for a choice. An alias such as "c1" is a code: as a prompt it would only blur the label."""
    names = list(_parts(_attribute(element, "predicted_values"), ","))
    words = alias.replace("_", " ")
    if _WORDS.fullmatch(words):
        names.insert(0, words)
    different: dict[str, str] = {}
    for name in names:
        if name.lower() != value.lower():
            different.setdefault(name.lower(), name)
    return tuple(different.values())


def _parts(text: str, separator: str) -> tuple[str, ...]:
    return tuple(part for piece in text.split(separator) if (part := piece.strip()))


def _threshold(element: Element, where: str) -> float | None:
    text = _attribute(element, "model_score_threshold")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"{where}: model_score_threshold={text!r} must be a number from 0 to 1")
    return value
