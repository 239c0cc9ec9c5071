"""What callers of the Python API give: taken where its meaning is plain, refused in one line otherwise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

from ...schemas.errors import ConfigError
from ...schemas.items import ImageRef, Item
from ...schemas.jobs import Control, JobSpec
from ...schemas.search import MOST_CHARACTERS
from ...schemas.taxonomy import Label, Taxonomy
from ...schemas.wire import kind_of

Source = str | PathLike[str] | ImageRef | Item
"""What one item may be made of."""

Question = Taxonomy | Sequence[Control] | Sequence[str | Label]
"""What may be asked of each item."""


def sources_of(items: Iterable[Source] | Source) -> Iterable[Source]:
    """The items to submit; one that stands alone is a list of one, and of a mapping the keys count.

    Raises:
        ConfigError: nothing that could be looked through.
    """
    if isinstance(items, str | PathLike | ImageRef | Item):
        return [items]
    if isinstance(items, bytes | bytearray | memoryview) or not isinstance(items, Iterable):
        raise ConfigError(
            f"items must be a list of paths, URLs, ImageRefs or Items, not {kind_of(items)}; for the bytes of "
            "image files: [ImageRef.from_bytes(...)]"
        )
    return items


def controls_of(question: Question) -> tuple[Control, ...]:
    """The controls of a job that asks this; a list of labels is one single choice.

    Raises:
        ConfigError: nothing that could be asked; says what can.
    """
    if isinstance(question, Taxonomy):
        return (Control(taxonomy=question),)
    if isinstance(question, Control):
        return (question,)
    if isinstance(question, Iterable) and not isinstance(question, str | bytes | Mapping):
        parts = tuple(question)
        controls = tuple(part for part in parts if isinstance(part, Control))
        labels = tuple(part for part in parts if isinstance(part, str | Label))
        if len(controls) == len(parts):
            return controls  # none at all is for the job to refuse
        if len(labels) == len(parts):
            return (Control(taxonomy=Taxonomy.flat(labels)),)
    raise ConfigError(
        f"what to answer with must be a Taxonomy, a list of labels or a list of Controls, not {kind_of(question)}: "
        'Taxonomy.flat(["cat", "dog"]), Taxonomy.tree({"animal": ["cat", "dog"]})'
    )


def count_of(value: int, name: str) -> int:
    """How many there may be.

    Raises:
        ConfigError: no whole number from 0 on.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"{name} must be a whole number from 0 on, not {kind_of(value)}")
    return value


def seconds_of(value: float | None) -> float | None:
    """A timeout, seconds; None is as long as it takes.

    Raises:
        ConfigError: no number.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise ConfigError(f"timeout must be a number of seconds or None, not {kind_of(value)}")
    return None if value > _LONGEST_S else float(value)


_LONGEST_S = 10.0**9
"""Thirty years."""


def texts_of(given: str | Sequence[str] | None, name: str) -> tuple[str, ...]:
    """One text or several.

    Raises:
        ConfigError: something else, or an empty text.
    """
    if given is not None and (not isinstance(given, Iterable) or isinstance(given, bytes | bytearray | Mapping)):
        raise ConfigError(f"{name} must be a text or a list of texts, not {kind_of(given)}")
    texts = (given,) if isinstance(given, str) else tuple(given or ())
    if any(not isinstance(text, str) or not text.strip() for text in texts):
        raise ConfigError(f"{name} is an empty text: say what it is that you look for")
    if any(len(text) > MOST_CHARACTERS for text in texts):
        raise ConfigError(f"{name} is longer than {MOST_CHARACTERS:,} characters, of which a model reads the first 300")
    return texts


def numbers_of(given: int | Iterable[int] | None, name: str) -> tuple[int, ...]:
    """Numbers of tasks: one, or several.

    Raises:
        ConfigError: something else.
    """
    if isinstance(given, int) and not isinstance(given, bool):
        return (given,)
    if given is None:
        return ()
    if isinstance(given, str | bytes | bytearray | Mapping) or not isinstance(given, Iterable):
        raise ConfigError(f"{name} must be the number of a task or a list of them, not {kind_of(given)}")
    numbers = tuple(given)
    if odd := [one for one in numbers if isinstance(one, bool) or not isinstance(one, int) or not 0 <= one < 2**63]:
        raise ConfigError(f"{name} must be numbers of tasks; {kind_of(odd[0])} is none")
    return numbers


def spec_of(taxonomy: Question, **asked: Any) -> JobSpec:
    """The spec of a job that asks this.

    Raises:
        ConfigError: a value cannot be used; names it.
    """
    return JobSpec(controls=controls_of(taxonomy), **asked)
