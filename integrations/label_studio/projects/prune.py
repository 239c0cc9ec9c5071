"""Removing predictions of our earlier versions, where there is one of the present; a few seconds' worth at a time.

What Label Studio 1.23 offers, as measured on SQLite and two cores: all predictions of one version at once take 4 ms
each, in one transaction, during which nobody else writes; single ones take 65 ms each. A request that finds the
database locked is tried again by Label Studio itself, after 3 s. "Delete predictions" of the Data Manager removes
every version.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

from ....schemas import ModelVersion
from ..api import counts, tasks
from ..api.connection import LabelStudioAPI, NotThere
from . import registration

log = logging.getLogger(__name__)

ALL_OF_A_VERSION = 500
"""Predictions of an old version up to which Label Studio is asked to remove all in one transaction, some 2 s long."""

SLICE_S = 2.0
"""Seconds after which no further prediction is removed one by one in one call."""

_LISTED = 40
"""Tasks listed at once, with their predictions: about as many as a slice is enough for."""


def prune(
    api: LabelStudioAPI,
    project: int,
    current: str,
    *,
    for_s: float = SLICE_S,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Remove predictions of our earlier versions where there is one of the present, for some seconds.

    Args:
        api: Label Studio.
        project: the project's number.
        current: the present version.
        for_s: seconds after which it ends; one prediction at least is removed, where there is one.
        clock: seconds, monotonic.

    Returns:
        Whether some may be left.

    Raises:
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    known = counts.predictions(api, project)
    # Label Studio looks for a part of a text: where ours is part of another, its count of tasks without is wrong.
    is_part = any(current in version != current for version in known)
    deadline = clock() + for_s
    for version, count in known.items():
        if version == current or not ModelVersion.is_ours(version):
            continue
        lacks = [tasks.with_version(version), tasks.without_version(current)]
        lacking = tasks.page(api, project, lacks, size=1, fields="id").total
        if not lacking and not is_part and count <= ALL_OF_A_VERSION:
            _remove_all(api, project, version, current)
            log.info("project %s: %d predictions of %s are replaced", project, count, version)
            if clock() >= deadline:
                return True
            continue
        for prediction in _replaced(api, project, version, current):
            try:
                with api.errors(f"prediction {prediction}"):
                    api.json("DELETE", f"api/predictions/{prediction}/")
            except NotThere:  # somebody was faster
                continue
            if clock() >= deadline:
                return True
    return False


def _remove_all(api: LabelStudioAPI, project: int, version: str, current: str) -> None:
    is_shown = registration.shown_version(api, project) == current
    with api.errors(f"predictions of {version}"):
        path = f"api/projects/{project}/model-versions"
        api.json("DELETE", path, json={"model_version": version}, timeout=300)
    if is_shown:  # Label Studio forgets it with any removal where it is a backend's title
        registration.show(api, project, current)


def _replaced(api: LabelStudioAPI, project: int, version: str, current: str) -> Iterator[int]:
    """Ids of a version's predictions of tasks that have one of the present."""
    both = [tasks.with_version(version), tasks.with_version(current)]
    for page in tasks.pages(api, project, both, fields="id,predictions", size=_LISTED):
        for task in page.tasks:
            if any(prediction["model_version"] == current for prediction in task["predictions"]):
                yield from (one["id"] for one in task["predictions"] if one["model_version"] == version)
