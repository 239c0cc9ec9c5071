"""The tabs of a project's Data Manager, which Label Studio's API calls views, and what they may filter by.

What Label Studio 1.23 does with a stored view, and what follows:

- A filter by a list of task numbers (`in_list`), which a query may have, stops every tab of the project for as long as
  the view is there: its page knows no such operator. So `joined` refuses it.
- Whoever changes something of a tab in the browser writes the whole of its `data` again: only what the page knows of
  survives. It knows the widths of columns by name, and keeps those of columns there are not.
- A project that has never been opened in the browser has no view. The page makes "Default" for it then, unless there is
  another already.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from .connection import LabelStudioAPI
from .tasks import Filter

Filters = dict[str, Any]
"""Filters of a view with how they are joined, as its `data` has them."""

_STOPS_THE_PAGE: Final = ("in_list", "not_in_list")

_SPECIAL: Final = re.compile(r"[\\.^$*+?()\[\]{}|]")
"""What means something outside brackets to Python's `re`, PostgreSQL's regular expressions and RE2 alike
(https://github.com/google/re2/wiki/Syntax); each takes a backslash before it as the character itself."""


class View(NamedTuple):
    """A tab.

    Attributes:
        number: its id.
        user: the number of whoever made it; None when Label Studio does not say.
        data: title, type, filters, columns and what else the page keeps.
    """

    number: int
    user: int | None
    data: dict[str, Any]


def listed(api: LabelStudioAPI, project: int) -> list[View]:
    """All tabs of a project, whoever made them, as they stand from left to right.

    Raises:
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    with api.errors(f"the Data Manager's tabs of project {project}"):
        return [_view(one) for one in api.json("GET", "api/dm/views/", params={"project": project})]


def create(api: LabelStudioAPI, project: int, data: Mapping[str, Any]) -> View:
    """Make a tab, right of all others.

    Args:
        api: Label Studio.
        project: the project's number. Label Studio takes that of any project: ask first whether it is there.
        data: `title`, `type` ("list" or "grid"), `target` ("tasks"), `filters` (see `joined`).

    Raises:
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    with api.errors(f"the Data Manager's tabs of project {project}"):
        return _view(api.json("POST", "api/dm/views/", json={"project": project, "data": dict(data)}))


def change(api: LabelStudioAPI, number: int, data: Mapping[str, Any]) -> View:
    """Give a tab other data, all of it; its filters and its order stay where `data` has none.

    Raises:
        NotThere: somebody has closed it.
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    with api.errors(f"tab {number}"):
        return _view(api.json("PATCH", f"api/dm/views/{number}/", json={"data": dict(data)}))


def count(api: LabelStudioAPI, project: int, number: int) -> int:
    """How many tasks a tab of the project holds.

    Raises:
        NotThere: somebody has closed it.
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    params = {"project": project, "view": number, "page": 1, "page_size": 1, "include": "id"}
    with api.errors(f"tab {number}"):
        return int(api.json("GET", "api/tasks", params=params)["total"])


def delete(api: LabelStudioAPI, number: int) -> None:
    """Close a tab for everybody.

    Raises:
        NotThere: somebody has closed it.
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    with api.errors(f"tab {number}"):
        api.json("DELETE", f"api/dm/views/{number}/")


def joined(conjunction: Literal["and", "or"], filters: Sequence[Filter]) -> Filters:
    """The filters of a tab.

    Raises:
        ValueError: a filter that would stop the project's Data Manager.
    """
    for one in filters:
        if one["operator"] in _STOPS_THE_PAGE:
            raise ValueError(f"a stored filter by {one['operator']} would stop every tab of the project")
    return {"conjunction": conjunction, "items": list(filters)}


def data_matches(key: str, pattern: str) -> Filter:
    """Tasks whose data has a text under `key` in which the pattern is found, by regular expression; case counts."""
    return {"filter": f"filter:tasks:data.{key}", "operator": "regex", "type": "String", "value": pattern}


def literally(text: str) -> str:
    """A regular expression that finds this text and no other, in every dialect a Label Studio's database may speak.

    `re.escape` will not do: it also puts a backslash before characters that mean nothing, which not all dialects take.
    """
    return _SPECIAL.sub(r"\\\g<0>", text)


def _view(there: Mapping[str, Any]) -> View:
    user = there.get("user")
    return View(int(there["id"]), user if isinstance(user, int) else None, dict(there.get("data") or {}))
