"""The tasks a search has found, as a tab of Label Studio's Data Manager.

There is one such tab for each project and user: the next search takes it over, so that tabs do not pile up. A tab has
no order of its own, so ranks and scores are not in it.

A tab can hold tasks by number only with a filter for each, which Label Studio 1.23's page draws one below the other: 50
take it some seconds, 200 bring its filter panel to a halt. So more are found by the names of their images, with one
regular expression. Whether that finds those tasks and none besides, only Label Studio can say, and only of a filter it
has stored: as part of an address such an expression is longer than many web servers take.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Final, NamedTuple

from ....schemas import ConfigError
from ..api import tasks as listing
from ..api import views
from ..api.connection import LabelStudioAPI, NotThere
from ..api.views import Filters, View
from ..label_config.config import LabelConfig

BY_NUMBER: Final = 50
"""Tasks a tab finds by number at most."""

BY_NAME: Final = 1_000
"""Tasks a tab finds by the names of their images at most: Label Studio takes half a second for so many."""

LONGEST_PATTERN: Final = 30_000
"""Bytes of the regular expression that finds them."""

LONGEST_TITLE: Final = 40
"""Characters of a tab's title: with more, other tabs have no room."""

_WIDTHS: Final = "columnsWidth"

_MARK: Final = "prelabel:search"
"""The name of a column there is not: its width stands in the tabs that the next search may take over, and stays there
when somebody renames a tab or arranges its columns. A copy made by hand has it too, but is younger."""

_LONGEST_ADDRESS: Final = 4_000
"""Characters of an image's address; what is longer is no address."""

_AT_ONCE: Final = 150
"""Task numbers in one request; see `api.tasks`."""


class Tab(NamedTuple):
    """A tab that shows what was found.

    Attributes:
        number: its id in Label Studio.
        url: where it opens.
        label_stream_url: where its tasks are labelled one after the other. In a browser in which "Label All Tasks" was
            pressed last, Label Studio goes through the whole project all the same, until "Label Tasks As Displayed" is.
        shown: how many tasks it holds.
        note: why they are fewer than asked for, in words; empty when they are not.
    """

    number: int
    url: str
    label_stream_url: str
    shown: int
    note: str


class _Choice(NamedTuple):
    """What may find so many tasks; and if it is not certain, others besides."""

    filters: Filters
    tasks: int
    is_certain: bool
    note: str


def open_tab(
    api: LabelStudioAPI, project: int, config: LabelConfig, tasks: Sequence[int], title: str, *, keep: bool = False
) -> Tab:
    """Show tasks in the project's search tab of the API key's user, which is made where there is none.

    Args:
        api: Label Studio.
        project: the project's number.
        config: the project's label config: it says under which key a task's image stands.
        tasks: numbers of tasks, the best first; those the project does not have are left out.
        title: of the tab, such as "search: cracked screen"; at most 40 characters of it are shown.
        keep: make a tab that no later search takes over.

    Raises:
        ConfigError: no tasks, or none of them is the project's; what should be numbers is something else.
        NotThere: there is no such project, or the API key's user may not see it.
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    asked = _numbers(tasks)
    api.project(project)
    choices = _choices(api, project, config, asked)
    choice = next(choices)
    view = _stored(api, project, None if keep else _taken_over(api, project), choice, title, keep=keep)
    while not choice.is_certain and views.count(api, project, view.number) != choice.tasks:
        choice = next(choices)
        view = _stored(api, project, view, choice, title, keep=keep)
    url = f"{api.url}/projects/{project}/data?tab={view.number}"
    return Tab(view.number, url, f"{url}&labeling=1", choice.tasks, choice.note)


def _numbers(tasks: Sequence[int]) -> list[int]:
    if not len(tasks):
        raise ConfigError("there are no tasks to show: a search that finds nothing makes no tab")
    if not all(isinstance(number, Integral) and not isinstance(number, bool) and number > 0 for number in tasks):
        raise ConfigError("the tasks of a tab are numbers of Label Studio's tasks, from 1")
    return list(dict.fromkeys(map(int, tasks)))  # a search may have numpy's, which JSON has not


def _short(title: str) -> str:
    words = " ".join(title.split()) or "search"
    return words if len(words) <= LONGEST_TITLE else f"{words[: LONGEST_TITLE - 1].rstrip()}…"


def _taken_over(api: LabelStudioAPI, project: int) -> View | None:
    """The search tab of the API key's user, where there is one; the oldest, where somebody has made a copy of it."""
    with api.errors("the user of the API key"):
        user = api.json("GET", "api/current-user/whoami").get("id")
    mine = [one for one in views.listed(api, project) if one.user == user and _MARK in (one.data.get(_WIDTHS) or {})]
    return min(mine, key=lambda one: one.number, default=None)


def _stored(api: LabelStudioAPI, project: int, view: View | None, choice: _Choice, title: str, *, keep: bool) -> View:
    """The tab with these tasks; how people have arranged it stays."""
    data = {"title": _short(title), "type": "grid", "target": "tasks", "filters": choice.filters}
    if view is not None:
        stays = {name: value for name, value in view.data.items() if name != "selectedItems"}
        try:
            return views.change(api, view.number, {**stays, **data})
        except NotThere:  # somebody has just closed it
            pass
    if not views.listed(api, project):  # else this tab's tasks would be all that the project seems to have
        views.create(api, project, {"title": "Default", "type": "list", "target": "tasks"})
    return views.create(api, project, data if keep else {**data, _WIDTHS: {_MARK: 1}})


def _choices(api: LabelStudioAPI, project: int, config: LabelConfig, asked: list[int]) -> Iterator[_Choice]:
    """What may find the tasks, the best first; the last finds the first of them for certain."""
    by_name = BY_NUMBER < len(asked) <= BY_NAME
    keys = list(dict.fromkeys(config.images.values())) if by_name else []
    looked_for = asked[:BY_NAME]
    there = _addresses(api, project, looked_for, keys)
    if not there:
        raise ConfigError(f"none of the {len(looked_for)} tasks to show is in project {project}: were they deleted?")
    gone = len(looked_for) - len(there)
    notes = [f"{gone} of the tasks are not in project {project} any more"] if gone else []
    if len(there) > BY_NUMBER:
        unnamed = "their images have no addresses that could tell them apart"
        why_not = unnamed if by_name else f"a tab holds at most {BY_NAME:,}"
        for key in keys:
            for pattern in patterns([addresses[key] for addresses in there.values()]):
                if len(pattern.encode()) > LONGEST_PATTERN:
                    why_not = "the names of their images are too long for one tab"
                    continue
                filters = views.joined("and", [views.data_matches(key, pattern)])
                yield _Choice(filters, len(there), is_certain=False, note="; ".join(notes))
                why_not = "other tasks have images of the same names"
        notes.insert(0, f"only the first {BY_NUMBER} of {len(asked):,} tasks are shown: {why_not}")
    shown = [listing.is_number(number) for number in list(there)[:BY_NUMBER]]
    yield _Choice(views.joined("or", shown), len(shown), is_certain=True, note="; ".join(notes))


def _addresses(
    api: LabelStudioAPI, project: int, numbers: Sequence[int], keys: Sequence[str]
) -> dict[int, dict[str, str]]:
    """Those of the tasks that the project has, in their order: the plain address under each key, or an empty text."""
    found: dict[int, dict[str, str]] = {}
    for start in range(0, len(numbers), _AT_ONCE):
        some = listing.numbered(numbers[start : start + _AT_ONCE])
        page = listing.page(api, project, [some], size=_AT_ONCE, fields="id,data" if keys else "id")
        found |= {int(task["id"]): {key: _plain(task["data"].get(key)) for key in keys} for task in page.tasks}
    return {number: found[number] for number in numbers if number in found}


def _plain(value: object) -> str:
    """An address a regular expression can name; empty for a list of images, and for an image in its address's place."""
    if not isinstance(value, str) or not value.isprintable() or value.lower().startswith("data:"):
        return ""
    return value if len(value) <= _LONGEST_ADDRESS else ""


def patterns(addresses: Sequence[str]) -> list[str]:
    """Regular expressions that find these addresses: by their last parts, and as a whole.

    Args:
        addresses: of images; an empty one has no name.

    Returns:
        Those that find each address and that tell it from every other one of them, the shortest first. Whether they
        find addresses besides is for whoever knows those to say.
    """
    last_parts = [address.rpartition("/")[2] for address in addresses]
    return [
        f"{before}({'|'.join(map(views.literally, names))})$"
        for before, names in (("(^|/)", last_parts), ("^", addresses))
        if all(names) and len(set(names)) == len(names)
    ]
