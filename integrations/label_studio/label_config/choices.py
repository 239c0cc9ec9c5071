"""Choices: from `<Choice>` tags, or from the objects a task brings along, to labels.

A choice is described alike in both places: `value`, `alias` (what Label Studio stores; a synonym when it reads as
words), `hint` (description), `predicted_values` (synonyms, comma-separated), `model_score_threshold`, and ours:
`model_prompt` (the label's own prompts, separated by `|`). `value` and `alias` are kept as they stand, spaces and all,
for Label Studio stores and compares them so; prompts are made from a copy.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from ....schemas.errors import ConfigError, ItemError
from ....schemas.items import Options
from ....schemas.taxonomy import Label, LabelPath
from .xml import MAX_DEPTH, parts, tag_of, written

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_OPTIONS = 5_000
"""Labels one task may bring along."""

_IDEOGRAPH = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\U00020000-\U0003ffff"
"""Kana, Han and Hangul: one may be a word."""

_WORDS = re.compile(rf"(?:[^\W\d_]{{3,}}|[{_IDEOGRAPH}]+)(?:[ '-][^\W\d_]+)*")

_JOINERS = "\u200c\u200d"

_Attribute = Callable[[str], str | None]
"""From an attribute's name to its text as it stands; None where there is none."""


def labels_of_tags(element: Element, *, deep: bool, where: str, depth: int = 0) -> tuple[Label, ...]:
    """The labels of the `<Choice>` tags inside a control.

    Args:
        element: the control, or a `<Choice>`.
        deep: whether choices inside choices count. Of several with one value the first counts.
        where: names the control in messages.
        depth: for itself.

    Raises:
        ConfigError: a choice cannot be used.
    """
    if depth > MAX_DEPTH:
        raise ConfigError(f"control {where!r} is nested more than {MAX_DEPTH} levels deep")
    labels: dict[str, Label] = {}
    for child in _choice_tags(element, 0):
        value = written(child, "value") or ""
        if not value.strip():
            raise ConfigError(f"control {where!r} has a <Choice> without value")
        if value in labels:
            continue  # Label Studio shows both, and stores the same for both
        children = labels_of_tags(child, deep=deep, where=where, depth=depth + 1) if deep else ()
        labels[value] = _label(partial(written, child), children, f"control {where!r}, choice {value!r}")
    return tuple(labels.values())


def options_of_data(value: object, *, deep: bool, taken: frozenset[str] = frozenset()) -> Options:
    """The labels a task brings along: a list of objects like `{"value": "Dog", "alias": "d", "children": […]}`.

    Label Studio shows objects alone: plain texts become choices without text. Of several with one value the first
    counts, as in its tree.

    Args:
        value: from the task's data.
        deep: whether `children` count.
        taken: values the label config has already.

    Raises:
        ItemError: not such a list, none in it, or more than `MAX_OPTIONS`.
    """
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        raise ItemError("is not a list of choices") from None
    return _options(text, deep, taken)


@lru_cache(maxsize=128)  # thousands of tasks bring the same
def _options(text: str, deep: bool, taken: frozenset[str]) -> Options:
    labels = _labels_of_data(json.loads(text), deep, 0, [0], taken)
    if not labels:
        raise ItemError("holds no choices")
    return Options(labels=labels)


def _labels_of_data(
    value: Any, deep: bool, depth: int, count: list[int], taken: frozenset[str] = frozenset()
) -> tuple[Label, ...]:
    if not isinstance(value, list):
        raise ItemError('is not a list of choices such as [{"value": "Dog"}, {"value": "Cat"}]')
    if depth > MAX_DEPTH:
        raise ItemError(f"is nested more than {MAX_DEPTH} levels deep")
    labels: dict[str, Label] = {}
    for entry in value:
        if isinstance(entry, str):
            raise ItemError(
                f"holds plain text ({entry[:40]!r}), which Label Studio shows as a blank choice: "
                f'write {{"value": {json.dumps(entry[:40], ensure_ascii=False)}}}'
            )
        if not isinstance(entry, dict) or not isinstance(entry.get("value"), str) or not entry["value"].strip():
            raise ItemError("holds an entry without a text under 'value'")
        count[0] += 1
        if count[0] > MAX_OPTIONS:
            raise ItemError(f"holds more than {MAX_OPTIONS:,} choices")
        name = entry["value"]
        if name in labels or name in taken:
            continue
        below = entry.get("children")
        children = _labels_of_data(below, deep, depth + 1, count) if deep and below else ()
        try:
            labels[name] = _label(_reader_of(entry), children, f"choice {name[:40]!r}")
        except ConfigError as error:
            raise ItemError(f"cannot be used: {error}") from None
    return tuple(labels.values())


def answers_of(labels: Iterable[Label]) -> dict[LabelPath, LabelPath]:
    """For the path of every label in the tree what Label Studio stores: aliases where there are any, else values."""
    answers: dict[LabelPath, LabelPath] = {}
    stack: list[tuple[LabelPath, LabelPath, Label]] = [((), (), label) for label in labels]
    while stack:
        path, answer, label = stack.pop()
        path = (*path, label.name)
        answer = (*answer, label.name if label.answer is None else label.answer)
        answers[path] = answer
        stack.extend((path, answer, child) for child in label.children)
    return answers


def threshold_of(text: str, where: str) -> float | None:
    """A `model_score_threshold`.

    Raises:
        ConfigError: not a number from 0 to 1.
    """
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"{where}: model_score_threshold={text!r} must be a number from 0 to 1")
    return value


def _choice_tags(element: Element, depth: int) -> Iterator[Element]:
    """The `<Choice>` tags of one level; layout tags such as `<View>` around them do not count."""
    if depth > MAX_DEPTH:
        raise ConfigError(f"the label config is nested more than {MAX_DEPTH} levels deep")
    for child in element:
        if tag_of(child) == "choice":
            yield child
        else:
            yield from _choice_tags(child, depth + 1)


def _reader_of(entry: dict[str, Any]) -> _Attribute:
    def read(name: str) -> str | None:
        value = entry.get(name)
        is_text = isinstance(value, str | int | float) and not isinstance(value, bool)
        return str(value) if is_text else None

    return read


def _label(read: _Attribute, children: tuple[Label, ...], where: str) -> Label:
    def told(name: str) -> str:
        return (read(name) or "").strip()

    value, alias = read("value") or "", read("alias")
    return Label(
        name=value,
        synonyms=_synonyms(told("predicted_values"), value.strip(), told("alias")),
        description=told("hint") or None,
        prompts=parts(told("model_prompt"), "|"),
        threshold=threshold_of(told("model_score_threshold"), where),
        answer=alias if alias != value else None,
        children=children,
    )


def _synonyms(predicted_values: str, value: str, alias: str) -> tuple[str, ...]:
    """Other names for a choice. An alias such as "c1" is a code: as a prompt it would only blur the label."""
    names = list(parts(predicted_values, ","))
    words = alias.replace("_", " ")
    if _reads_as_words(words):
        names.insert(0, words)
    different: dict[str, str] = {}
    for name in names:
        if name.lower() != value.lower():
            different.setdefault(name.lower(), name)
    return tuple(different.values())


def _reads_as_words(text: str) -> bool:
    """Whether it is words of any script: vowel signs and accents are letters, and the first word has three of them."""
    letters = "".join("a" if unicodedata.category(one).startswith("M") else one for one in text if one not in _JOINERS)
    return text[:1].isalpha() and _WORDS.fullmatch(letters) is not None
