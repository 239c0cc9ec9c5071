"""Some of a project's tasks, spread over all of it: those whose images need not be read first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

from ..api import tasks
from ..api.connection import LabelStudioAPI
from ..label_config.config import LabelConfig

_T = TypeVar("_T")

_PARTS = 10
"""Places of a project that are looked at for tasks nobody has scored: one request each."""

_NUMBERS = 100
"""Task numbers in one request."""

_ROUNDS = 3
"""Times that other stored tasks are taken for some that have been deleted since."""


class Sample(NamedTuple):
    """Tasks as Label Studio lists them, by number, and how many the project has in all."""

    tasks: list[dict[str, Any]]
    total: int


def draw(api: LabelStudioAPI, project: int, size: int, known: Sequence[int], configs: Sequence[LabelConfig]) -> Sample:
    """Draw up to `size` tasks; the same ones as long as the project stays as it is.

    Args:
        api: Label Studio.
        project: whose tasks.
        size: how many, at least 1.
        known: numbers of tasks with stored vectors, ascending; deleted ones among them are passed over.
        configs: what will be asked about them.

    Raises:
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    fields = next((tasks.fields_for(one) for one in configs if tasks.fields_for(one) != tasks.FIELDS), "id,data")
    drawn: dict[int, dict[str, Any]] = {}
    left = list(known)
    for _ in range(_ROUNDS):
        wanted = spread(left, size - len(drawn))
        if not wanted:
            break
        for start in range(0, len(wanted), _NUMBERS):
            some = wanted[start : start + _NUMBERS]
            page = tasks.page(api, project, [tasks.numbered(some)], size=len(some), fields=fields)
            drawn.update((int(task["id"]), task) for task in page.tasks)
        asked = set(wanted)
        left = [number for number in left if number not in asked]
    first = tasks.page(api, project, size=1, fields="id")
    if len(drawn) < size and len(drawn) < first.total:
        _fill(api, project, size, drawn, int(first.tasks[0]["id"]) if first.tasks else 1, fields)
    return Sample([drawn[number] for number in sorted(drawn)], first.total)


def spread(values: Sequence[_T], count: int) -> list[_T]:
    """`count` of the values at even distances, in their order; all where there are no more."""
    if count >= len(values):
        return list(values)
    return [values[(2 * place + 1) * len(values) // (2 * count)] for place in range(count)]


def _fill(
    api: LabelStudioAPI, project: int, size: int, drawn: dict[int, dict[str, Any]], first: int, fields: str
) -> None:
    """Add tasks from several places of the project, then from its start on, until there are enough."""
    last = tasks.newest(api, project)
    parts = min(_PARTS, size - len(drawn))
    each = -(-(size - len(drawn)) // parts)
    found = tasks.across(api, project, first, last, parts, each=each, fields=fields)
    if len(found.keys() | drawn.keys()) < size:  # task numbers have gaps: other projects' tasks
        page = tasks.page(api, project, size=size, fields=fields)
        found.update((int(task["id"]), task) for task in page.tasks)
    others = [number for number in sorted(found) if number not in drawn]
    drawn.update((number, found[number]) for number in spread(others, size - len(drawn)))
