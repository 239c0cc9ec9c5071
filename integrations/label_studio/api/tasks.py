"""Listing a project's tasks in Label Studio: pages of few fields, filtered by the server.

Label Studio 1.23 with `include=` answers 250 tasks in the time of three single requests; without it, or with
predictions, ten times slower. A bulk import of predictions does not touch a task's `updated_at`; a change of its data
or an annotation does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from ..label_config.config import LabelConfig
from .connection import LabelStudioAPI, NotThere

PAGE_SIZE = 250
"""Tasks asked for per request."""

_NUMBERS = 150
"""Task numbers in one request: its first line must stay below the 4 KB some web servers take."""

_BETWEEN = 1000
"""Tasks with a prediction that are listed at most at once, of those from one number to another; so many take Label
Studio as long as some five requests for `_NUMBERS`."""

_CUT_OFF = 500
"""Characters of a task's versions that Label Studio lists."""

_NO_VERSION = "no prediction has this version"

Filter = dict[str, Any]


class Page(NamedTuple):
    """Some tasks.

    Attributes:
        tasks: `id`, `data`, `updated_at` and `predictions_model_versions`, or what was asked for.
        total: how many tasks match in all.
        at: Label Studio's clock when it answered, Unix seconds; 0 when it did not say.
    """

    tasks: list[dict[str, Any]]
    total: int
    at: float


FIELDS = "id,data,updated_at,predictions_model_versions"

REGION_FIELDS = f"{FIELDS},annotations,drafts,predictions,result,model_version,was_cancelled,created_at"
"""With what regions stand in, and their fields, which are named in the same list; ten times slower."""


def fields_for(config: LabelConfig) -> str:
    """The fields of a task that say what a label config asks about."""
    return REGION_FIELDS if any(control.per == "region" for control in config.controls) else FIELDS


def without_version(version: str) -> Filter:
    """Tasks that have no prediction of the version."""
    return _filter("predictions_model_versions", "not_contains", [version], "List")


def with_version(part: str) -> Filter:
    """Tasks that have a prediction whose version contains `part`."""
    return _filter("predictions_model_versions", "contains", [part], "List")


def numbered_above(number: int) -> Filter:
    """Tasks with larger numbers."""
    return _filter("id", "greater", number, "Number")


def numbered_up_to(number: int) -> Filter:
    """Tasks with numbers up to this one."""
    return _filter("id", "less_or_equal", number, "Number")


def is_number(number: int) -> Filter:
    """The task with this number."""
    return _filter("id", "equal", number, "Number")


def numbered_below(number: int) -> Filter:
    """Tasks with smaller numbers."""
    return _filter("id", "less", number, "Number")


def labelled(is_labelled: bool) -> Filter:
    """Tasks that have an annotation, or those that have none; a task that somebody skipped has none."""
    return _filter("total_annotations", "greater" if is_labelled else "equal", 0, "Number")


def numbered(numbers: Sequence[int]) -> Filter:
    """Tasks with these numbers."""
    return _filter("id", "in_list", list(numbers), "List")


def updated_after(at: float) -> Filter:
    """Tasks that changed after this Unix second of Label Studio's clock."""
    return _filter(
        "updated_at", "greater", datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"), "Datetime"
    )


def _filter(name: str, operator: str, value: object, kind: str) -> Filter:
    return {"filter": f"filter:tasks:{name}", "operator": operator, "type": kind, "value": value}


def page(
    api: LabelStudioAPI,
    project: int,
    filters: Sequence[Filter] = (),
    *,
    size: int = PAGE_SIZE,
    fields: str = FIELDS,
    order: str = "id",
) -> Page:
    """The first tasks that match, by number or in another order.

    Raises:
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    items = list(filters)
    if "predictions_model_versions" in fields and not any("model_versions" in one["filter"] for one in items):
        items.append(without_version(_NO_VERSION))  # it lists the versions only when a filter asks for them
    query = {"filters": {"conjunction": "and", "items": items}, "ordering": [f"tasks:{order}"]}
    params: dict[str, Any] = {
        "project": project,
        "page": 1,
        "page_size": size,
        "include": fields,
        "query": json.dumps(query, separators=(",", ":")),
        "resolve_uri": "false",  # as /predict and webhooks have it
    }
    if "predictions" in fields.split(",") or "annotations" in fields.split(","):
        params["fields"] = "all"
    with api.errors(f"tasks of project {project}"):
        response = api.http.get("api/tasks", params=params)
        response.raise_for_status()
        body = response.json()
        at = response.headers.get("date", "")
    tasks = body.get("tasks", []) if isinstance(body, dict) else []
    return Page(tasks, int(body.get("total", len(tasks))) if isinstance(body, dict) else 0, _clock(at))


def pages(
    api: LabelStudioAPI,
    project: int,
    filters: Sequence[Filter] = (),
    *,
    fields: str = FIELDS,
    size: int = PAGE_SIZE,
    newest_first: bool = False,
) -> Iterator[Page]:
    """All tasks that match, by number, a page at a time.

    The next page is asked for by number: tasks that stop matching meanwhile would shift page numbers.

    Raises:
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    beyond: list[Filter] = []
    order, further = ("-id", numbered_below) if newest_first else ("id", numbered_above)
    while True:
        answer = page(api, project, [*filters, *beyond], fields=fields, size=size, order=order)
        yield answer
        if len(answer.tasks) < size:
            return
        beyond = [further(answer.tasks[-1]["id"])]


def versions_of(task: dict[str, Any]) -> set[str]:
    """The model versions of a listed task's predictions."""
    raw = task.get("predictions_model_versions") or ()
    parts = raw.split(",") if isinstance(raw, str) else raw
    return {str(part).strip() for part in parts if part}


def with_prediction(api: LabelStudioAPI, project: int, numbers: Sequence[int], version: str) -> set[int]:
    """Which of these tasks have a prediction of the version.

    Few requests where it has few: a job's tasks stand close together, and before its push hardly any has one.

    Raises:
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    if len(numbers) > _NUMBERS:
        between = [numbered_above(min(numbers) - 1), numbered_below(max(numbers) + 1)]
        answer = _page_with(api, project, between, version, size=_BETWEEN)
        if answer.total == len(answer.tasks):
            return _having(answer, version) & set(numbers)
    answered: set[int] = set()
    for start in range(0, len(numbers), _NUMBERS):
        answer = _page_with(api, project, [numbered(numbers[start : start + _NUMBERS])], version)
        answered |= _having(answer, version)
    return answered


def _page_with(
    api: LabelStudioAPI, project: int, filters: Sequence[Filter], version: str, size: int = PAGE_SIZE
) -> Page:
    return page(api, project, [*filters, with_version(version)], size=size, fields="id,predictions_model_versions")


def _having(answer: Page, version: str) -> set[int]:
    """The server looks for a part of a version, and cuts a long list of versions off."""
    return {
        int(task["id"])
        for task in answer.tasks
        if version in versions_of(task) or len(task["predictions_model_versions"]) >= _CUT_OFF
    }


def predictions(api: LabelStudioAPI, project: int, numbers: Sequence[int], version: str) -> dict[int, list[int]]:
    """The numbers of these tasks' predictions of a version, the oldest first; ten times slower than `with_prediction`.

    Raises:
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    by_task: dict[int, list[int]] = {}
    for start in range(0, len(numbers), _NUMBERS):
        asked = numbers[start : start + _NUMBERS]
        for task in page(api, project, [numbered(asked), with_version(version)], fields="id,predictions").tasks:
            mine = [int(one["id"]) for one in task["predictions"] if one["model_version"] == version]
            by_task[int(task["id"])] = sorted(mine)
    return by_task


def among(api: LabelStudioAPI, project: int, numbers: Sequence[int]) -> set[int]:
    """Which of these are tasks of the project.

    Raises:
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    members: set[int] = set()
    for start in range(0, len(numbers), _NUMBERS):
        answer = page(api, project, [numbered(numbers[start : start + _NUMBERS])], fields="id")
        members.update(int(task["id"]) for task in answer.tasks)
    return members


def in_tab(api: LabelStudioAPI, project: int, tab: int) -> list[int]:
    """The numbers of all tasks a tab of the project's Data Manager lists, in its order.

    Raises:
        NotThere: the project has no such tab.
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    with api.errors(f"tab {tab}"):
        if api.json("GET", f"api/dm/views/{tab}/").get("project") != project:
            raise NotThere(f"tab {tab} is another project's")
    numbers: list[int] = []
    at = 0
    while True:
        at += 1
        params: dict[str, Any] = {"project": project, "view": tab, "page": at, "page_size": PAGE_SIZE, "include": "id"}
        with api.errors(f"tab {tab}"):
            answer = api.json("GET", "api/tasks", params=params)
        numbers += [int(task["id"]) for task in answer["tasks"]]
        if len(answer["tasks"]) < PAGE_SIZE:  # asking for a page beyond the last one is an error
            return numbers


def across(
    api: LabelStudioAPI, project: int, first: int, last: int, places: int, *, each: int, fields: str
) -> dict[int, dict[str, Any]]:
    """Tasks from all over a project, by number: some from each of several places at even distances.

    Args:
        api: Label Studio.
        project: whose tasks.
        first: the smallest number of its tasks; there is the first place.
        last: the largest one.
        places: how many, one request each; task numbers have gaps, so two may give the same tasks.
        each: how many tasks are taken from a place on.
        fields: what is listed of a task, its `id` included.

    Raises:
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    listed: dict[int, dict[str, Any]] = {}
    for place in range(places):
        beyond = numbered_above(first + (last - first + 1) * place // places - 1)
        listed.update((int(task["id"]), task) for task in page(api, project, [beyond], size=each, fields=fields).tasks)
    return listed


def newest(api: LabelStudioAPI, project: int) -> int:
    """The largest number of the project's tasks; 0 when it has none."""
    tasks = page(api, project, size=1, fields="id", order="-id").tasks
    return int(tasks[0]["id"]) if tasks else 0


def _clock(header: str) -> float:
    try:
        return parsedate_to_datetime(header).timestamp()
    except ValueError:
        return 0.0
