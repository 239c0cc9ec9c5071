"""Label configs as XML: read safely, walked with what hides each tag, tag and attribute names in any case."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from ....schemas.errors import ConfigError
from ....schemas.wire import kind_of

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_DEPTH = 32
"""Levels of nested tags read; deeper configs are refused, not walked."""


MAX_CHARS = 2**20
"""Characters of a label config; one with 10,000 choices has half of them."""


class Node(NamedTuple):
    """A tag, and those around it from the outermost in."""

    element: Element
    around: tuple[Element, ...]


def parse_xml(xml: str) -> Element:
    """The root of a label config.

    Raises:
        ConfigError: no text, empty, too long, not XML, or with a DTD or entities.
    """
    if not isinstance(xml, str):
        raise ConfigError(f"a label config is a text, not {kind_of(xml)}")
    if len(xml) > MAX_CHARS:
        raise ConfigError(f"the label config has {len(xml):,} characters, at most {MAX_CHARS:,} are read")
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


def walk(element: Element, leave_closed: tuple[str, ...], around: tuple[Element, ...] = ()) -> Iterator[Node]:
    """Every tag in document order, without going into those named `leave_closed`.

    Raises:
        ConfigError: nested too deeply.
    """
    if len(around) > MAX_DEPTH:
        raise ConfigError(f"the label config is nested more than {MAX_DEPTH} levels deep")
    yield Node(element, around)
    if tag_of(element) in leave_closed:
        return
    for child in element:
        yield from walk(child, leave_closed, (*around, element))


def tag_of(element: Element) -> str:
    """The tag's name in lower case; empty for comments."""
    return element.tag.lower() if isinstance(element.tag, str) else ""


def written(element: Element, name: str) -> str | None:
    """The attribute's text as it stands, which is what Label Studio stores and compares; None when it is missing."""
    value = element.get(name)
    if value is None:
        lower = name.lower()
        value = next((text for key, text in element.items() if key.lower() == lower), None)
    return value


def attribute(element: Element, name: str) -> str:
    """The attribute's text without space around it; empty when it is missing. For what only we read."""
    return (written(element, name) or "").strip()


def flag(element: Element, name: str) -> bool:
    """Whether the attribute says true."""
    return attribute(element, name).lower() == "true"


def parts(text: str, separator: str) -> tuple[str, ...]:
    """The pieces between separators that are not blank."""
    return tuple(part for piece in text.split(separator) if (part := piece.strip()))
