"""Which tasks of a project a look lists, and in which order: what people will open next comes first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ....schemas import ModelVersion
from ....schemas.model_version import OURS_CONTAIN
from ..api import tasks
from ..api.connection import LabelStudioAPI
from .state import ProjectState

SLACK_S = 10.0
"""Seconds of changes that are looked at twice: Label Studio's clock is told in whole seconds, and writes take time."""

_NUMBERS = 100
"""Task numbers asked for in one request."""


class Listing:
    """Lists the tasks of one project, those without annotations before the others, the newest first of each.

    Args:
        api: Label Studio.
        project: the project's number.
        version: the model version that is looked for.
        state: what is known of the project.
        fields: of the tasks.
        at_page: called with every page of tasks.

    Attributes:
        at: Label Studio's clock when it first answered, Unix seconds; 0 before.
    """

    def __init__(
        self,
        api: LabelStudioAPI,
        project: int,
        version: str,
        state: ProjectState,
        fields: str,
        at_page: Callable[[], object],
    ) -> None:
        self.at = 0.0
        self._api = api
        self._project = project
        self._version = version
        self._state = state
        self._fields = fields
        self._at_page = at_page

    def through(self, *, everything: bool, is_new_version: bool) -> Iterator[dict[str, Any]]:
        """All tasks without our version.

        Args:
            everything: those from before the connection, too.
            is_new_version: among those from before the connection, the ones that were pre-labelled earlier.
        """
        lacks = tasks.without_version(self._version)
        floor = 0 if everything else self._state.floor
        wanted = [[lacks, *([tasks.numbered_above(floor)] if floor else [])]]
        if floor and is_new_version:  # tasks that are old, and were pre-labelled because somebody asked
            wanted.append([lacks, tasks.with_version(OURS_CONTAIN)])
        ours = ModelVersion.parse(self._version)
        if ours is not None and not ours.calibration:  # Label Studio takes a calibrated one for it: it looks for a part
            wanted.append([tasks.with_version(ours.calibrated_start)])
        for labelled in (False,) if self._state.unlabelled_only else (False, True):
            for filters in wanted:
                yield from self._list(tasks.labelled(labelled), *filters)

    def changed(self) -> Iterator[dict[str, Any]]:
        """The tasks that changed since the last look."""
        yield from self._list(tasks.updated_after(self._state.since - SLACK_S), *self._wanted())

    def numbered(self, numbers: Sequence[int], *, labelled_too: bool = False) -> Iterator[dict[str, Any]]:
        """Some tasks by their numbers, in that order of hundreds.

        Args:
            numbers: of tasks.
            labelled_too: also where only unlabelled ones are pre-labelled.
        """
        for start in range(0, len(numbers), _NUMBERS):
            asked = tasks.numbered(numbers[start : start + _NUMBERS])
            yield from self._list(asked, *([] if labelled_too else self._wanted()))

    def _wanted(self) -> list[tasks.Filter]:
        return [tasks.labelled(False)] if self._state.unlabelled_only else []

    def _list(self, *filters: tasks.Filter) -> Iterator[dict[str, Any]]:
        for page in tasks.pages(self._api, self._project, filters, fields=self._fields, newest_first=True):
            self._at_page()
            self.at = self.at or page.at
            yield from page.tasks
